# `make demo` and `make test` first install what they need into .venv (README.md).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
LOWEST := $(VENV)-lowest
export PATH := $(abspath $(BIN)):$(PATH)
export OMP_NUM_THREADS ?= $(shell nproc 2>/dev/null || echo 2)

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Print a command, then run it in the folder demo.
run = @echo; echo '$$ $(1)'; cd demo && $(1)

.PHONY: install setup demo test test-all test-lowest lint format tables clean

# The program alone, for users.
install: $(VENV)/.program
	@echo "Installed. To put the commands on your path: source $(BIN)/activate"

# Everything for developers: the program with all its extras, and the tools for tests.
setup: $(VENV)/.developers

# The program without extras.
$(VENV)/.program: setup.cfg pyproject.toml constraints.txt
	@echo "Installing the program into $(VENV): PyTorch is large, so this may take some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.developers: $(VENV)/.program
	@echo "Installing the extras and the developers' tools into $(VENV)."
	$(BIN)/python $(PIP_INSTALL) --constraint constraints.txt --editable ".[dev]"
	@touch $@

# The main job on simulated pictures, in demo/: build, train, a verdict on one picture, report.
demo: $(VENV)/.program
	@rm -rf demo && mkdir demo
	@echo "The main job on simulated pictures, in the folder demo:"
	$(call run,pipeline sample --out pictures)
	$(call run,pipeline build --src pictures)
	$(call run,train run --store features.zarr)
	$(call run,predict pictures/test/fake/generator-a/00000.*)
	$(call run,report)
	@echo
	@echo "Open demo/runs/001-experts/report.html in a browser. It has the same figures, with pictures."

# The slow tests kill builds and runs many times; only `make test-all` runs them.
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
	$(LOWEST)/bin/python $(PIP_INSTALL) --constraint $(LOWEST)/versions.txt --editable ".[dev]"
	PATH="$(abspath $(LOWEST)/bin):$$PATH" $(LOWEST)/bin/python -m pytest -n auto -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tables of options in docs/, from the fields of the settings.
tables: setup
	$(BIN)/python docs/make_tables.py

clean:
	rm -rf $(VENV) $(LOWEST) demo build *.egg-info
