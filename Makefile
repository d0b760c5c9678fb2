# demo, test, up: each installs what it needs first. PYTHON may name any interpreter from 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo up test faults lint bench lock clean

help:
	@echo "make demo   sample conversations through the whole pipeline, then a recall and three answers"
	@echo "make up     the local stack with the Dagster UI, until Ctrl-C"
	@echo "make test   lint, types, layers, and the whole suite on real stores"
	@echo "make faults servers killed, suspended, flushed; networks cut; and many random inputs: the slow tests"
	@echo "make bench  the numbers, as ratios against the bare engines"
	@echo "make lock   resolve requirements.lock again (needs uv)"
	@echo "make clean  remove the virtual environment and the local stack's state"

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 …")'
	@echo "installing into $(VENV), about a minute …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/memory-pipeline demo

up: $(INSTALLED)
	@$(BIN)/memory-pipeline up

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

faults: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses 2 -m "faults or nightly"

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.index
	$(BIN)/python -m benchmarks.export
	$(BIN)/python -m benchmarks.api
	$(BIN)/python -m benchmarks.worker
	$(BIN)/python -m benchmarks.redis_memory

lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --output-file requirements.lock

clean:
	rm -rf $(VENV) .memory .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
