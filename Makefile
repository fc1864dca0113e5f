# Two commands on a fresh box: `make demo` runs the quickstart job, `make test` runs the test suite.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Much of the suite waits for processes: five at a time keep two cores busy.
WORKERS ?= 5

EXACT := .venv-exact

.PHONY: demo test test-exact test-jobs exact reliability venv check fmt clean

demo: venv
	$(BIN)/gpujob submit jobs/quickstart/quickstart.yaml --budget 3

test: venv
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

# What needs torch: its own environment, so that everything else stays small and is tested without it.
test-exact: exact
	$(EXACT)/bin/pytest -n $(WORKERS) tests/exact

# The jobs in jobs/ that need torch, on its CPU build: the same environment. What their libraries warn of is only shown.
test-jobs: exact
	OMP_NUM_THREADS=1 $(EXACT)/bin/pytest -n $(WORKERS) --dist worksteal -W default tests/jobs_torch

exact: $(EXACT)/.installed

# The tests that rent, with the worker killed at every point there is, and every backend's conformance; the tables go
# into docs/reliability.md.
reliability: venv
	$(BIN)/python tools/reliability.py --workers $(WORKERS)

venv: $(VENV)/.installed

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(EXACT) build *.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt deploy/make_venv.sh
	@PYTHON=$(PYTHON) deploy/make_venv.sh $(VENV)
	@touch $@

$(EXACT)/.installed: pyproject.toml constraints.txt constraints-exact.txt deploy/make_venv.sh
	@PYTHON=$(PYTHON) deploy/make_venv.sh $(EXACT) exact,jobs,dev constraints-exact.txt
	@touch $@
