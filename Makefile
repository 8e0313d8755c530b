# `make demo` and `make test` set everything up themselves; see README.md.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
LOWEST := $(VENV)-lowest
export PATH := $(abspath $(BIN)):$(PATH)
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: setup demo test test-all test-lowest lint format tables clean

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

# The main job on simulated pictures, in demo/: build, train, a verdict on one picture, report.
demo: setup
	rm -rf demo
	mkdir demo
	cd demo && pipeline sample --out pictures
	cd demo && pipeline build --src pictures
	cd demo && train run --store features.zarr
	cd demo && eval predict pictures/test/fake/generator-a/00000.*
	cd demo && eval report
	@echo "Open demo/runs/001-experts/report.html in a browser: it says the above, with pictures."

# All but the slow tests, which kill builds and runs many times: for those see test-all.
test test-all: export OMP_NUM_THREADS := 1

test: setup lint
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: setup lint
	$(BIN)/python -m pytest -n auto

# The quick tests with the lowest versions that setup.cfg allows, in a virtual environment of its own.
test-lowest: export OMP_NUM_THREADS := 1
test-lowest: setup
	$(PYTHON) -m venv --clear $(LOWEST)
	$(BIN)/python .ci/lowest_versions.py > $(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/versions.txt --editable ".[dev]"
	PATH="$(abspath $(LOWEST)/bin):$$PATH" $(LOWEST)/bin/python -m pytest -n auto -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The options' tables of docs/, from the fields that the options are made of.
tables: setup
	$(BIN)/python docs/make_tables.py

clean:
	rm -rf $(VENV) $(LOWEST) demo build *.egg-info
