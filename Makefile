# Two commands for everybody: `make demo` and `make test`. Both set up what they need; a second run reuses it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= demo-data

.PHONY: help demo test soak check install format docs bases clean

help:
	@echo "make demo      the whole documented flow: data, fine-tuning, provisioned throughput, base against custom"
	@echo "make test      the test suite"
	@echo "make soak      bad input and 1,000 cancels a round leave nothing behind; training jobs killed 50 times each, at"
	@echo "               random moments, end with the same bits (about three quarters of an hour)"
	@echo "make check     ruff, mypy --strict, import contracts"
	@echo "make install   .venv with the pinned set of constraints.txt and this package"
	@echo "make format    put the sources in their house style"
	@echo "make docs      write the tree of ARCHITECTURE.md and the pages of docs/reference anew"
	@echo "make bases     cast the bundled base model again from its own scripts (about half an hour on two cores)"

# What the commands below need, made once; the stamp is older than its reasons after either of them changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "outcrop needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.11 $(MAKECMDGOALS)" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned set into $(VENV) (a minute or a few, once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt 'torch>=2.8,<=2.13.0'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	@$(BIN)/outcrop demo --data $(DATA)

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal $(TESTS)

soak: $(VENV)/.installed
	$(BIN)/python -m tests.soak.hostile
	$(BIN)/python -m tests.soak.soak $(SOAK)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed
	$(BIN)/python docs/tree.py
	$(BIN)/python -m docs.reference

bases: $(VENV)/.installed
	$(BIN)/python -m foundry.cast

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
