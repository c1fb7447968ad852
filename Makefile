# Each target installs what it needs. demo, test, docs and check need only Python 3.11 or newer.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
SIDE_BY_SIDE := --numprocesses=auto --dist=worksteal
# More workers than CPUs, because these tests mostly wait. The tests of a module share its servers.
MODULES_SIDE_BY_SIDE := --numprocesses=3 --dist=loadfile
FUZZ_PROFILE ?= thorough
# The documentation tools have an environment of their own, because their pinned versions differ from those of the driver.
DOCS_VENV := .venv-docs
LOWEST_VENV := .venv-lowest
# The tools that describe, audit and publish a release.
TOOLS_VENV := .venv-tools
# PyInstaller takes what is installed in its environment.
PLUGIN_VENV := .venv-plugin
# The tests start hundreds of processes. Each would compile all modules again, which takes as long as the rest of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-lowest test-pythons docs fuzz check fix proto lock image sbom audit workflows recording pictures dist plugin plugin-manifest release-check publish-image publish-chart publish-python publish-github lock-image e2e e2e-machine e2e-cluster e2e-kubernetes e2e-scenarios broken-setups cluster compat bench bench-publish bench-syncs soak clean
.DEFAULT_GOAL := help

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## Run the complete flow on this machine: vault emulator, driver, volume, Secret, rotation.
	@$(BIN)/keyferry demo $(DEMO_FLAGS)

test: $(VENV)/.dev ## Run the unit, integration and short fuzz tests. Needs only Python.
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --durations=10 --durations-min=2 $(TEST_FLAGS)

test-lowest: $(LOWEST_VENV)/.lowest ## Run the unit tests with the lowest accepted version of each dependency.
	@$(LOWEST_VENV)/bin/python -m pytest tests/unit $(SIDE_BY_SIDE) $(TEST_FLAGS)

test-pythons: $(TOOLS_VENV)/.tools ## Run the unit tests on each Python after 3.11 that can be had: installed, or from Debian.
	@scripts/test_pythons.sh $(TEST_FLAGS)

docs: $(DOCS_VENV)/.docs ## Build the documentation site in site/. Needs only Python.
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict # without --quiet, which also hides the warnings from --strict

fuzz: $(VENV)/.dev ## Run the fuzz tests with 10,000 cases per test (fewer for slow tests) instead of 100.
	@$(BIN)/python -m pytest tests/fuzz $(SIDE_BY_SIDE) --hypothesis-profile=$(FUZZ_PROFILE) -o timeout=1200 $(TEST_FLAGS)

check: $(VENV)/.dev docs ## Check formatting, lint, types, import layers, generated stubs, the documentation and the files of the chart.
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/python -m mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > /dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/unit/test_architecture.py tests/unit/test_citations.py tests/unit/test_words.py tests/unit/test_performance_page.py tests/unit/chart/test_chart_files.py
	@VENV=$(VENV) scripts/proto.sh --check

fix: $(VENV)/.dev ## Format the code and apply the fixes of the linter.
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .

proto: $(VENV)/.dev ## Generate the protobuf stubs from src/keyferry/proto/*.proto.
	@VENV=$(VENV) scripts/proto.sh

lock: $(VENV)/.dev ## Update the lock files.
	@scripts/lock.sh

image: $(VENV)/.runtime ## Build the OCI image from Debian packages, without a registry. Needs Debian 12; IMAGE_FLAGS=--help lists its flags.
	@$(BIN)/python -m scripts.image build $(IMAGE_FLAGS)

sbom: $(TOOLS_VENV)/.tools ## Write the bill of materials of the image (CycloneDX JSON) to build/. Needs Debian 12.
	@$(TOOLS_VENV)/bin/python -m scripts.sbom $(SBOM_FLAGS)

audit: $(TOOLS_VENV)/.tools ## Compare the locked Python packages with the known vulnerabilities. Fails if no database is reached.
	@$(TOOLS_VENV)/bin/python -m scripts.audit $(AUDIT_FLAGS)

workflows: $(TOOLS_VENV)/.tools ## Check the workflows in .github with actionlint and zizmor. Needs Python and Go.
	@scripts/workflows.sh

recording: $(VENV)/.runtime $(TOOLS_VENV)/.tools ## Record the demo as docs/images/demo.svg.
	@$(TOOLS_VENV)/bin/python scripts/recording.py

pictures: $(VENV)/.dev ## Take the pictures of the status page in docs/images. Needs Debian's Chromium, which it installs as root.
	@$(BIN)/python -m scripts.status_page_pictures

dist: $(VENV)/.runtime ## Build wheel and sdist of keyferry and keyferry-devvault in dist/.
	@rm -rf dist && $(BIN)/hatchling build -d dist
	@cd src/keyferry_devvault && ../../$(BIN)/hatchling build -d ../../dist

plugin: $(PLUGIN_VENV)/.plugin ## Make the archive of the kubectl plugin for krew in build/plugin, for this platform.
	@$(PLUGIN_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --force-reinstall .
	@$(PLUGIN_VENV)/bin/python -m scripts.plugin build

plugin-manifest: $(VENV)/.runtime ## Write the manifest for krew to build/plugin, for the archives in that folder.
	@$(BIN)/python -m scripts.plugin manifest

release-check: ## Check that the tag, the package, the chart and the changelog name one version.
	@scripts/publish.sh check

publish-image publish-chart publish-github:
	@scripts/publish.sh $(@:publish-%=%)

publish-python: $(TOOLS_VENV)/.tools
	@scripts/publish.sh python

lock-image: $(VENV)/.runtime ## Update the lock file of the image's Debian packages. Needs Debian 12.
	@$(BIN)/python -m scripts.image lock

e2e: e2e-machine e2e-cluster ## Run the end-to-end tests with real components. Needs root, Debian 12, and Go.

e2e-machine: $(VENV)/.dev $(TOOLS_VENV)/.tools ## Run the end-to-end tests without Kubernetes: conformance, crashes, load, OpenBao, image.
	@$(BIN)/python -m pytest tests/e2e $(MODULES_SIDE_BY_SIDE) $(TEST_FLAGS)

e2e-cluster: e2e-kubernetes e2e-scenarios ## Run the end-to-end tests with Kubernetes, which is built on first use.

e2e-kubernetes: $(VENV)/.dev ## Run the Kubernetes tests that start their own cluster or parts of it.
	@$(BIN)/python -m pytest tests/e2e/cluster --cluster=own --ignore=tests/e2e/cluster/test_broken_setups.py $(TEST_FLAGS)

broken-setups: $(VENV)/.dev ## Break a cluster in 87 ways and compare what each tool says with its page. Ten minutes; not part of e2e.
	@$(BIN)/python -m pytest tests/e2e/cluster/test_broken_setups.py $(TEST_FLAGS)

e2e-scenarios: $(VENV)/.dev ## Run the Kubernetes tests that share one cluster with Keyferry installed.
	@$(BIN)/python -m pytest tests/e2e/cluster --cluster=common $(TEST_FLAGS)

cluster: $(VENV)/.dev ## Start a single-node cluster with Keyferry and keep it running until Ctrl-C.
	@$(BIN)/python -m tests.e2e.cluster

compat: $(VENV)/.dev ## Compare with upstream on the same vault and API. Needs the same as e2e.
	@$(BIN)/python -m pytest tests/compat $(TEST_FLAGS)

bench: $(VENV)/.dev ## Measure Keyferry and upstream under the same loads, in 17 minutes. QUICK=1: in four. Needs the same as e2e.
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(BENCH_FLAGS)

bench-publish: $(VENV)/.dev ## Write the figures and charts of the last `make bench` into README.md and docs/operations.
	@$(BIN)/python -m bench.readable $(or $(RESULTS),.bench-output) $(PUBLISH_FLAGS)

bench-syncs: $(VENV)/.dev ## Measure the SecretSync controller with 10,000 SecretSyncs. Needs the same as e2e.
	@$(BIN)/python -m bench.syncs $(BENCH_FLAGS)

soak: $(VENV)/.dev ## Run a mixed load with failures for MINUTES=30 and check for growth.
	@$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),30)

clean: ## Remove the local environments, the documentation site and all caches.
	@rm -rf $(VENV) $(DOCS_VENV) $(LOWEST_VENV) $(TOOLS_VENV) $(PLUGIN_VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .test-output .bench-output build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Keyferry needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Could not create a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: requirements/runtime.lock requirements/devvault.lock requirements/build.lock pyproject.toml src/keyferry_devvault/pyproject.toml | $(BIN)/python
	@echo "Installing Keyferry and its emulator into $(VENV) ..."
	@scripts/retry.sh $(PIP) install --no-compile --require-hashes -r requirements/runtime.lock -r requirements/devvault.lock -r requirements/build.lock
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib # faster than pip, which uses one CPU
	@$(PIP) install --no-deps --no-build-isolation --editable . --editable src/keyferry_devvault
	@touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.runtime
	@echo "Installing the development tools into $(VENV) ..."
	@scripts/retry.sh $(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

$(DOCS_VENV)/.docs: requirements/docs.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The documentation needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 docs"; exit 1; }
	@echo "Installing the documentation tools into $(DOCS_VENV) ..."
	@$(PYTHON) -m venv --clear $(DOCS_VENV)
	@scripts/retry.sh $(DOCS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/docs.lock
	@touch $@

$(TOOLS_VENV)/.tools: requirements/tools.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "These tools need Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing the release tools into $(TOOLS_VENV) ..."
	@$(PYTHON) -m venv --clear $(TOOLS_VENV)
	@scripts/retry.sh $(TOOLS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/tools.lock
	@touch $@

$(PLUGIN_VENV)/.plugin: requirements/plugin.lock requirements/runtime.lock requirements/build.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The plugin needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing Keyferry and PyInstaller into $(PLUGIN_VENV) ..."
	@$(PYTHON) -m venv --clear $(PLUGIN_VENV)
	@scripts/retry.sh $(PLUGIN_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/runtime.lock -r requirements/build.lock -r requirements/plugin.lock
	@touch $@

$(LOWEST_VENV)/.lowest: requirements/lowest.lock pyproject.toml src/keyferry_devvault/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Keyferry needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 test-lowest"; exit 1; }
	@echo "Installing the lowest accepted versions into $(LOWEST_VENV) ..."
	@$(PYTHON) -m venv --clear $(LOWEST_VENV)
	@scripts/retry.sh $(LOWEST_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements/lowest.lock
	@$(LOWEST_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --editable . --editable src/keyferry_devvault
	@touch $@
