# One command each. PYTHON=python3.12 picks the interpreter that .venv is made with (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: setup demo test check

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt .ci/install.py
	@$(PYTHON) -I .ci/install.py
	@touch $@

demo: setup
	$(BIN)/vjepa-exp run experiments/quickstart.yaml

test: setup
	$(BIN)/python -m pytest -m "not slow and not gpu and not long"

check: setup
	$(BIN)/python -I .ci/check_layout.py
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
