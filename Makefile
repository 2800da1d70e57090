# `make check` before every push.
PYTHON ?= .venv/bin/python
.PHONY: check format lint types test coverage bench lock audit openapi sbom

check: lint types test

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest

# Branch coverage by tests/unit alone. The contract, mount and fault tests reach more, but a branch that no unit test
# takes is one whose mistakes are found late. Measuring fails some tests: those of test_budgets.py, which is left out, since
# they count processor time, and three of test_working_folder.py, since coverage imports modules before MusicFS begins.
coverage:
	mkdir -p .coverage && rm -f .coverage/*
	-$(PYTHON) -m coverage run -m pytest -q tests/unit --ignore tests/unit/test_budgets.py
	$(PYTHON) -m coverage combine -q
	@echo "Branch coverage of src/musicfs by the unit tests only:"
	$(PYTHON) -m coverage report

# `make bench QUICK=1` for some minutes instead of half an hour; `./scripts/setup bench` installs what it measures beside.
bench:
	$(PYTHON) -m bench $(if $(QUICK),--quick,--write docs/BENCHMARKS.md)

# Pins the newest versions of all packages, with their hashes, in requirements/.
lock:
	scripts/lock --upgrade

# Known vulnerabilities of what is pinned; needs the network.
audit:
	scripts/audit

# The description of the control API that is served, from the one that people write.
openapi:
	scripts/openapi

sbom:
	scripts/sbom
