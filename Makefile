# `make demo` and `make test` set everything up themselves; see README.md.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: setup demo test test-quick lint format clean

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

# The main job on simulated pictures, in demo/: build, train, report, a verdict on one picture.
demo: setup
	rm -rf demo
	mkdir demo
	cd demo && pipeline sample --out pictures
	cd demo && pipeline build --src pictures --size 128 --fit crop
	cd demo && train run --store features.zarr --epochs 6
	cd demo && eval report
	cd demo && eval predict pictures/test/real/camera-a/00000.jpg

test: setup lint
	$(BIN)/python -m pytest

# For daily work.
test-quick: setup lint
	$(BIN)/python -m pytest -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build *.egg-info
