# Tests start a private mongod: a database of the user does not make that unnecessary.
# Everything below runs in $(VENV), with uv where it is installed and with pip elsewhere.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
OUT ?= demo-out
SITE ?= site
# Material for MkDocs says at each build that its time ends; mkdocs.yml says what follows
export NO_MKDOCS_2_WARNING := 1
# Twice the cores, since most tests wait for a server; in this order the App's, which take longest,
# come first
PYTEST_ARGS ?= -n 4 --dist loadfile --no-loadscope-reorder
# What breaks first, on the embedded engine: no server, no browser
FAST := backend/test_config.py collection/test_packing.py connection/test_resolution.py \
	connection/test_settings.py dataset fields/test_translation.py index/test_writes.py \
	schema/test_columns.py search/test_index_search.py search/test_neighbors.py \
	support/test_oracle.py syncing writing/test_batching.py

UV := $(shell command -v uv 2>/dev/null)
BIN := $(VENV)/bin
SOURCES := pyproject.toml README.md LICENSE $(shell find src -name '*.py' -o -name 'py.typed' -o -name '*.yml')
VERSION := $(shell sed -n 's/.*"\(.*\)"/\1/p' src/fiftyone_milvus/_version.py)
WHEEL := dist/fiftyone_milvus-$(VERSION)-py3-none-any.whl

# Compiled is what is imported, which is a quarter of what is installed; so Python must be allowed to
unexport PYTHONDONTWRITEBYTECODE
ifdef UV
  make_venv = $(UV) venv --quiet --seed --python "$$(command -v $(PYTHON))" $(1)
  install = $(UV) pip install --quiet --python $(1)/bin/python
  build_wheel = $(UV) build --quiet --wheel --out-dir dist --python $(BIN)/python .
else
  make_venv = $(PYTHON) -m venv $(1) && $(1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
  install = $(1)/bin/python -m pip install --quiet --no-compile
  build_wheel = $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
endif

.PHONY: help
help:  ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.package  ## Index and search handwritten digits; leaves a picture of what it found
	@$(BIN)/fiftyone-milvus demo --out $(OUT)

.PHONY: test
test: test-env  ## Test the built wheel on both engines (PYTEST_ARGS="-k ..." for some)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: test-env  ## Test the core on the embedded engine only, in two minutes
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -k "not server" $(addprefix tests/,$(FAST))

.PHONY: test-isolated
test-isolated: test-env  ## Check that the tests leave your Milvus, MongoDB and home alone
	@$(BIN)/python -m tests.support.foreign $(PYTEST_ARGS)

.PHONY: chaos
chaos: test-env  ## Kill and freeze clients and engines at random, for CHAOS_SECONDS=300 on each engine
	@CHAOS_SECONDS="$${CHAOS_SECONDS:-300}" $(BIN)/python -m pytest -n 0 -s tests/faults -k chaos

.PHONY: lowest-env
lowest-env: $(LOWEST)/.ready

.PHONY: test-lowest
test-lowest: lowest-env  ## Test with the oldest dependencies that pyproject.toml allows
	@$(LOWEST)/bin/python -m pytest $(PYTEST_ARGS)

.PHONY: check
check: $(VENV)/.package $(VENV)/.dev  ## Check format, lint, types and the documentation
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@env -u FIFTYONE_DATABASE_URI $(BIN)/fiftyone-milvus setup
	@$(BIN)/python -m docs.generate --check
	@$(BIN)/mkdocs build --quiet --strict --site-dir $(SITE)

.PHONY: format
format: $(VENV)/.dev  ## Format, and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: bench
bench: test-env  ## Measure speed on both engines; ONLY="views again" runs some cases, BENCH_ARGS="--rows 1000000"
	@$(BIN)/python -m benchmarks $(foreach case,$(ONLY),--only $(case)) $(BENCH_ARGS)

.PHONY: docs
docs: $(VENV)/.package $(VENV)/.dev reference  ## Build the documentation's site
	@$(BIN)/mkdocs build --quiet --strict --site-dir $(SITE)
	@echo "$(SITE)/index.html"

.PHONY: reference
reference: $(VENV)/.package $(VENV)/.dev  ## Generate the pages that come from the code
	@env -u FIFTYONE_DATABASE_URI $(BIN)/fiftyone-milvus setup
	@$(BIN)/python -m docs.generate

.PHONY: screenshots
screenshots: test-env  ## Take the documentation's pictures of the App again
	@$(BIN)/python -m pytest -q -n 0 tests/app/screenshots.py

.PHONY: tasks
tasks: test-env  ## Count the clicks and seconds of common tasks in the App
	@$(BIN)/python -m pytest -q -s -n 0 tests/app/tasks.py

.PHONY: clean
clean:  ## Remove everything that these commands made
	@rm -rf $(VENV) $(LOWEST) $(OUT) $(SITE) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: test-env
test-env: $(VENV)/.package $(VENV)/.dev $(VENV)/.compiled
	@env -u FIFTYONE_DATABASE_URI $(BIN)/fiftyone-milvus setup

$(VENV)/bin/python:
	@echo "Creating $(VENV)"
	@$(call make_venv,$(VENV))

$(WHEEL): $(SOURCES) | $(VENV)/bin/python
	@rm -rf dist
	@$(build_wheel)

$(VENV)/.package: $(WHEEL)
	@echo "Installing $(WHEEL) into $(VENV)"
	@$(call install,$(VENV)) $(WHEEL)
	@$(call install,$(VENV)) --force-reinstall --no-deps $(WHEEL)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the tools into $(VENV)"
	@$(call install,$(VENV)) --group dev --group publish --group server
	@touch $@

# Before the workers of a test run would each do it: packages, and pytest's rewritten tests
$(VENV)/.compiled: $(VENV)/.dev | $(VENV)/.package
	@env -u FIFTYONE_DATABASE_URI $(BIN)/fiftyone-milvus setup >/dev/null
	@$(BIN)/python -c "import pytest; pytest.main(['-q', '-n', '0', '--collect-only']); \
		import fiftyone.brain, fiftyone_milvus.embedded.service, fiftyone_milvus.index" >/dev/null
	@touch $@

$(LOWEST)/.ready: $(WHEEL) tests/lowest.txt
	@echo "Installing the oldest dependencies into $(LOWEST)"
	@test -x $(LOWEST)/bin/python || { $(call make_venv,$(LOWEST)); }
	@$(call install,$(LOWEST)) -c tests/lowest.txt $(WHEEL)
	@$(call install,$(LOWEST)) --force-reinstall --no-deps $(WHEEL)
	@$(call install,$(LOWEST)) -c tests/lowest.txt --group dev --group server
	@env -u FIFTYONE_DATABASE_URI $(LOWEST)/bin/fiftyone-milvus setup
	@touch $@
