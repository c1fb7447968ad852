# Every target does all of its own set-up. Python 3.11 or newer is the only thing needed for demo, test and check.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
SIDE_BY_SIDE := --numprocesses=auto --dist=worksteal
# More than there are processors, because these mostly wait; the tests of a module share its servers.
MODULES_SIDE_BY_SIDE := --numprocesses=3 --dist=loadfile
FUZZ_PROFILE ?= thorough
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: help demo test fuzz check fix proto lock e2e e2e-machine e2e-cluster e2e-kubernetes e2e-scenarios cluster compat bench soak clean
.DEFAULT_GOAL := help

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## Walk through the whole system on this machine, in seconds.
	@$(BIN)/keyferry demo $(DEMO_FLAGS)

test: $(VENV)/.dev ## Run the tests that need Python alone.
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(TEST_FLAGS)

fuzz: $(VENV)/.dev ## Try what a hostile vault or class may say, 10,000 cases a test (fewer of the slow ones) instead of 100.
	@$(BIN)/python -m pytest tests/fuzz $(SIDE_BY_SIDE) --hypothesis-profile=$(FUZZ_PROFILE) -o timeout=1200 $(TEST_FLAGS)

check: $(VENV)/.dev ## Format, lint, strict types, import layers, generated stubs. Changes nothing.
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python -m mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > /dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/unit/test_architecture.py
	@scripts/proto.sh --check

fix: $(VENV)/.dev ## Format, and mend what the linter can mend.
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

proto: $(VENV)/.dev ## Generate the protobuf stubs from src/keyferry/proto/*.proto.
	@scripts/proto.sh

lock: $(VENV)/.dev ## Pin the dependencies anew.
	@scripts/lock.sh

e2e: e2e-machine e2e-cluster ## Run against real components (root, Debian and Go needed): conformance, kill -9, load, OpenBao, a Kubernetes.

e2e-machine: $(VENV)/.dev ## Run the part of it that needs no Kubernetes.
	@$(BIN)/python -m pytest tests/e2e $(MODULES_SIDE_BY_SIDE) $(TEST_FLAGS)

e2e-cluster: e2e-kubernetes e2e-scenarios ## Run the part of it that needs a Kubernetes, which is built on the first use.

e2e-kubernetes: $(VENV)/.dev ## Of these, run what needs parts of a Kubernetes, or one of its own: the store, the chart, Vault.
	@$(BIN)/python -m pytest tests/e2e/cluster --cluster=own $(TEST_FLAGS)

e2e-scenarios: $(VENV)/.dev ## Of these, run the scenarios on one cluster with Keyferry installed.
	@$(BIN)/python -m pytest tests/e2e/cluster --cluster=common $(TEST_FLAGS)

cluster: $(VENV)/.dev ## Leave such a Kubernetes up for work by hand, until Ctrl-C.
	@$(BIN)/python -m tests.e2e.cluster

compat: $(VENV)/.dev ## Run the Go originals and ours side by side on the same vault and API (root, Debian and Go needed).
	@$(BIN)/python -m pytest tests/compat $(TEST_FLAGS)

bench: $(VENV)/.dev ## Measure ours and the Go originals under the same loads (QUICK=1: three minutes; needs what compat needs).
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(BENCH_FLAGS)

soak: $(VENV)/.dev ## Rotate, fail and churn for MINUTES=30, and see whether anything grows.
	@$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),30)

clean: ## Remove the local environment and every cache.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .test-output .bench-output

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Keyferry needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: requirements/runtime.lock pyproject.toml | $(BIN)/python
	@echo "Installing Keyferry into $(VENV) ..."
	@scripts/retry.sh $(PIP) install --require-hashes -r requirements/runtime.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.runtime
	@echo "Installing the tools for development into $(VENV) ..."
	@scripts/retry.sh $(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@
