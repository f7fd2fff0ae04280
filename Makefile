# Every target sets up .venv from requirements.lock first (once), with uv if it is installed, else pip and venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo ui test test-slow test-daemon test-browser test-ckan test-s3
.PHONY: bench-images bench-metadata bench-snapshots bench-operations format lock clean
.DEFAULT_GOAL := demo

$(STAMP): requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . ; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . ; \
	fi
	@touch $@

demo: $(STAMP)  ## build a small dataset offline, let a month pass, refresh it, compare
	@$(BIN)/lakehouse demo

ui: $(STAMP)  ## open Dagster on ./lake
	@$(BIN)/lakehouse ui

test: $(STAMP)  ## lint, types, import contracts, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not daemon and not postgres and not browser and not ckan and not s3"

test-slow: $(STAMP)  ## tests that take minutes
	$(BIN)/pytest -m "slow and not daemon and not browser"

test-daemon: $(STAMP)  ## against a real Dagster daemon and web server, and Debian's PostgreSQL
	$(BIN)/pytest -m "daemon or postgres"

test-browser: $(STAMP)  ## the pages in Debian's Chromium (SCREENSHOTS=docs/images takes the guides' pictures)
	$(BIN)/pytest -m browser

test-ckan: $(STAMP)  ## against the CKAN at LAKEHOUSE_CKAN_URL, with LAKEHOUSE_CKAN_TOKEN
	$(BIN)/pytest -m ckan

test-s3: $(STAMP)  ## against the S3 server at LAKEHOUSE_S3_ENDPOINT, with AWS_*
	$(BIN)/pytest -m s3

bench-images: $(STAMP)  ## the image engine against wrk, a C loop and img2dataset (ARGS="--images 2000 --rounds 1")
	$(BIN)/python benchmarks/images $(ARGS)

bench-metadata: $(STAMP)  ## the metadata floor against DuckDB, Polars, ISA-L, SQLite, PostgreSQL (ARGS="--photos 10000000")
	$(BIN)/python -m benchmarks.metadata $(ARGS)

bench-snapshots: $(STAMP)  ## versions of a million photos: build, diff, verify, near copies (ARGS="--photos 200000")
	$(BIN)/python -m benchmarks.snapshots $(ARGS)

bench-operations: $(STAMP)  ## what Dagster costs: partitions, backfills, refreshes, event log, loading (ARGS="--partitions 200")
	$(BIN)/python -W ignore -m benchmarks.operations $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## choose newer versions (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --generate-hashes --python-version 3.11 --no-header --upgrade --quiet -o requirements.lock

clean:
	rm -rf $(VENV)
