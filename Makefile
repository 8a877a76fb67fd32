# Every target makes the environments it needs, in .env/ (see tools/envs.py).
PYTHON ?= python3
ENV := $(PYTHON) tools/envs.py

# How many processes share the tests.
WORKERS ?= 2

# Where tests that need an object store find one.
SERVERS := ceph azurite rclone

.DEFAULT_GOAL := help
# The newest Python repeats what depends on Python or Zarr, with a quarter of the random examples.
# For all of it: make test ON_NEWEST= ICECHUNK_HYPOTHESIS_PROFILE=default
ON_NEWEST ?= -m "not slow"

# What is tested on real object stores: see docs/servers.md.
ON_SERVERS := tests/storage tests/test_s3.py tests/test_contention.py tests/servers compat/test_places.py

.PHONY: help demo test test-servers tests environments servers lint types bench compat format clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo:  ## Write real data from a Dask cluster, read it back [REPO=path or s3://bucket/prefix]
	@python=$$($(ENV) demo) && $$python examples/distributed_write.py $(REPO)

test: environments  ## Check style and types, run all tests on the default and newest Python
	@$(MAKE) --no-print-directory -j3 lint types servers
	@python=$$($(ENV) default) && \
	$$python tools/servers.py run --if-possible $(SERVERS) -- $(MAKE) --no-print-directory tests

environments:
	@$(ENV) default newest oracle oracle-1 > /dev/null

# What fails here is tried again, and said again, when the servers are to be started.
servers:
	@python=$$($(ENV) default) && \
	for name in $(SERVERS); do $$python tools/servers.py install $$name || true; done

tests:
	@set -e; python=$$($(ENV) default); newest=$$($(ENV) newest); \
	oracle=$$($(ENV) oracle); old=$$($(ENV) oracle-1); \
	export ICECHUNK_REQUIRE_ORACLE=1 ICECHUNK_ORACLE_PYTHON=$$oracle ICECHUNK_ORACLE_1_PYTHON=$$old; \
	echo "--- tests on $$($$python --version)"; \
	$$python -m pytest -n $(WORKERS) --dist worksteal $(ARGS); \
	if [ -z "$$newest" ]; then echo "--- no second Python on this machine"; exit 0; fi; \
	export ICECHUNK_HYPOTHESIS_PROFILE=$${ICECHUNK_HYPOTHESIS_PROFILE:-brief}; \
	echo "--- tests on $$($$newest --version), profile $$ICECHUNK_HYPOTHESIS_PROFILE, "'$(ON_NEWEST)'; \
	$$newest -m pytest -n $(WORKERS) --dist worksteal $(ON_NEWEST) $(ARGS)

test-servers:  ## Test on object stores: Ceph, moto, Azurite, a stand-in for Google's, rclone
	@set -e; oracle=$$($(ENV) oracle); old=$$($(ENV) oracle-1); python=$$($(ENV) default); \
	export ICECHUNK_REQUIRE_ORACLE=1 ICECHUNK_ORACLE_PYTHON=$$oracle; \
	export ICECHUNK_ORACLE_1_PYTHON=$$old CI=true; \
	$$python tools/servers.py run ceph azurite gcs rclone -- \
	  $$python -m pytest -n $(WORKERS) --dist worksteal $(ON_SERVERS) $(ARGS); \
	echo "--- the same contract on moto"; \
	$$python -m pytest tests/storage/test_s3.py $(ARGS)

lint:  ## Check formatting and lint rules
	@set -e; python=$$($(ENV) default); \
	$$python -m ruff format --check .; $$python -m ruff check .

types:  ## Check types of the package, strictly
	@python=$$($(ENV) default) && $$python -m mypy

bench:  ## Measure this package and the reference in turns, print a table [ARGS=--quick]
	@set -e; default=$$($(ENV) default); newest=$$($(ENV) newest); oracle=$$($(ENV) oracle); \
	ICECHUNK_BENCH_PYTHON=$${newest:-$$default} ICECHUNK_ORACLE_PYTHON=$$oracle \
	$$default benchmarks/run.py $(ARGS)

compat:  ## Exchange repositories with the reference implementation, both ways
	@set -e; oracle=$$($(ENV) oracle); old=$$($(ENV) oracle-1); python=$$($(ENV) default); \
	ICECHUNK_REQUIRE_ORACLE=1 ICECHUNK_ORACLE_PYTHON=$$oracle ICECHUNK_ORACLE_1_PYTHON=$$old \
	$$python -m pytest compat $(ARGS)

format:  ## Format the code and fix what can be fixed
	@set -e; python=$$($(ENV) default); \
	$$python -m ruff format .; $$python -m ruff check --fix .

clean:  ## Remove environments, caches and the demo repository
	rm -rf .env .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-repo dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
