# Two commands are enough on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run audit test soak space check bench format clean
.DELETE_ON_ERROR:

run: .venv/installed ## set everything up and open the app on the shipped model
	$(BIN)/seedproof serve --open

audit: .venv/installed ## audit this machine with the quick plan: table, recommendation, report
	$(BIN)/seedproof audit --plan quick

test: .venv/installed-dev ## set everything up and run all tests, a real browser included
	$(BIN)/python -m tests.browser
	$(BIN)/pytest

soak: .venv/installed-dev ## hours, by hand: kills, the standard plan, mixed use, load; one of them with PART=kills
	$(BIN)/python -m tests.soak $(PART)
	$(if $(PART),,$(BIN)/pytest -m soak)

space: .venv/installed-dev ## the Space in build/space: assembled, checked, started in a fresh environment
	$(BIN)/python -m webapp.space_folder
	$(BIN)/python -m tests.browser
	$(BIN)/pytest -m space

check: .venv/installed-dev ## for daily use: format, lint, types, import contract, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not slow and not browser and not soak and not space"

bench: .venv/installed-dev ## our own path beside diffusers' pipeline at equal pixels: one JSON document
	@$(BIN)/python -m tests.benchmarks.overhead

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Seedproof needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv *.egg-info build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
