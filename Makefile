# Each target sets up what it needs. PYTHON is the interpreter that makes the virtual environment (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
TESTABLE := $(VENV)/testable
OUT ?= demo

.PHONY: demo test lint bench clean

demo: $(INSTALLED)
	$(BIN)/pkt run demo $(OUT)

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(TESTABLE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# On the tiny base and random weights: benchmarks/real_base.py, which downloads, is asked for by hand.
bench: $(TESTABLE)
	@for script in $(filter-out benchmarks/real_base.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

# Runs again only when what is installed changed.
$(INSTALLED): pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("pkt needs Python 3.11 or newer: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

# What tests need beside it, which a user does not.
$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,app]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
