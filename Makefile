# One command each. PYTHON=python3.12 picks the interpreter that .venv is made with (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

SHORT := not slow and not gpu and not long

.PHONY: setup demo test test-mini test-ray test-others check

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt .ci/install.py
	@$(PYTHON) -I .ci/install.py
	@touch $@

demo: setup
	$(BIN)/vjepa-exp run experiments/quickstart.yaml

# Two at a time: a stage on Ray is a chain of processes that start one after the other, which leaves a core idle. First
# the longest ones.
test: setup
	@$(MAKE) --no-print-directory --jobs=2 --keep-going test-mini test-others test-ray

# Tests that compare with the mini study, which each session does once.
test-mini: setup
	$(BIN)/python -m pytest -q -m "ray and $(SHORT)" tests/ray/mini

test-ray: setup
	$(BIN)/python -m pytest -q -m "ray and $(SHORT)" --ignore=tests/ray/mini

test-others: setup
	$(BIN)/python -m pytest -q -m "not ray and $(SHORT)"

check: setup
	$(BIN)/python -I .ci/check_layout.py
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
