# Every target sets itself up on a fresh Debian 12 or Ubuntu 24.04: see README.md, "What it installs".
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PATH := $(HOME)/.cargo/bin:$(PATH)
# The checkout's own environment: nothing is installed into the user's Python.
VENV := .venv
PYTHON := $(VENV)/bin/python
UV := .tools/bin/uv
UV_VERSION := 0.13.8
CARGO := cargo --locked
MANIFEST := --manifest-path rust/Cargo.toml

.PHONY: help
help: ## Shows this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.tools/.system: scripts/setup-system
	@scripts/setup-system
	@mkdir -p .tools && touch $@

$(UV): .tools/.system
	@echo "==> uv $(UV_VERSION) into .tools"
	@python3 -m venv .tools
	@.tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/.synced: requirements/dev.txt $(UV)
	@echo "==> Python packages into $(VENV)"
	@[ -x $(PYTHON) ] || $(UV) venv --quiet --python python3 $(VENV)
	@$(UV) pip sync --quiet --python $(PYTHON) --require-hashes requirements/dev.txt
	@touch $@

# Cashu's reference mint, which tests compare ours with: its pins cannot live beside ours.
NUTSHELL := .venv-nutshell
$(NUTSHELL)/.synced: requirements/nutshell.txt $(UV)
	@echo "==> nutshell into $(NUTSHELL)"
	@[ -x $(NUTSHELL)/bin/python ] || $(UV) venv --quiet --python python3 $(NUTSHELL)
	@$(UV) pip sync --quiet --python $(NUTSHELL)/bin/python --require-hashes requirements/nutshell.txt
	@touch $@

# The node that tests mine on, in a folder of its own: one that is on PATH or in $BITCOIND, else a
# package of the distribution.
BITCOIND_DIR := $(or $(RADPOOL_BITCOIND_DIR),.nodes/bitcoind)
$(BITCOIND_DIR)/.ready: scripts/get-bitcoind
	@scripts/get-bitcoind $(BITCOIND_DIR)
	@touch $@

# A deleted shared object is not noticed by the installer's cache, so the package is always offered
# again and cargo decides what there is to do.
.PHONY: build native
build native: $(VENV)/.synced ## Builds everything; leaves .venv/bin/radpool.
	@echo "==> radpool-sv2 (the first build compiles about 100 crates: some minutes)"
	@$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation \
		--reinstall-package radpool-sv2 -e . -e extensions -e translator

.PHONY: demo
demo: build ## Chain, pool and four miners on this machine: a block, and who earned what.
	@$(VENV)/bin/radpool demo

.PHONY: test test-rust test-python
test: test-rust test-python ## Runs all tests.

# The same commit has the same examples everywhere; who wants others gives another seed.
export PROPTEST_RNG_SEED ?= 1

test-rust: $(VENV)/.synced
	@echo "==> Rust tests"
	@$(CARGO) test --quiet $(MANIFEST) --workspace

test-python: build load $(NUTSHELL)/.synced $(BITCOIND_DIR)/.ready
	@echo "==> Python tests"
	@$(PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: load
load: .tools/.system
	@$(CARGO) build --quiet --release $(MANIFEST) -p radpool-load

.PHONY: check
check: build ## Formatting, lints, types, contracts, vocabulary, licences.
	@scripts/check

.PHONY: format
format: $(VENV)/.synced ## Formats Rust and Python.
	@cargo fmt $(MANIFEST) --all
	@$(VENV)/bin/ruff format --quiet .
	@$(VENV)/bin/ruff check --quiet --fix .

.PHONY: bench
bench: build load $(NUTSHELL)/.synced ## Benchmarks beside their floors and peers; writes benchmarks/results.
	@$(PYTHON) -m benchmarks

SEEDS ?= 0..2000
.PHONY: simulate
simulate: build ## Runs the federation in seeded worlds with faults: SEEDS=A..B (2,000 by default).
	@$(PYTHON) -m radpool_sv2.testing --seeds $(SEEDS)

.PHONY: docs
docs: build ## Builds the pages under build/docs.
	@$(VENV)/bin/mkdocs build --quiet --strict --site-dir build/docs
	@$(CARGO) doc --quiet $(MANIFEST) --workspace --no-deps --target-dir build/rust-docs
	@echo "build/docs/index.html"

.PHONY: interop
interop: build ## Lets foreign programs work with ours; writes docs/interop.md (installs them; long).
	@scripts/interop

.PHONY: lock
lock: $(UV) ## Pins Python packages again.
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-annotate requirements/dev.in -o requirements/dev.txt
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--no-header --no-annotate requirements/nutshell.in -o requirements/nutshell.txt

.PHONY: clean
clean: ## Removes what was built and installed into the checkout.
	@rm -rf $(VENV) $(NUTSHELL) .tools build rust/target radpool_sv2/*.so
