"""Cluster tests run separately, in their own network namespace.

`pytest tests/e2e` excludes them, because the whole process enters the namespace; `make e2e` runs
both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from tests.compat.upstream import built_upstream
from tests.e2e.cluster.broken.alerts import promtool_path
from tests.e2e.cluster.installation import Installation, running_installation
from tests.e2e.cluster.keyferry_image import fetch_keyferry_image
from tests.e2e.cluster.namespace import Namespace, new_namespace
from tests.e2e.cluster.network import enter_own_network
from tests.e2e.cluster.programs import built_programs
from tests.e2e.cluster.side_by_side import SideBySide, running_side_by_side, scenarios_of
from tests.e2e.cluster.sync_namespace import SyncNamespace
from tests.e2e.cluster.sync_process import SyncWorld, running_sync_world
from tests.e2e.cluster.sync_scenarios import SYNC, running_sync_scenarios
from tests.e2e.cluster.vault_cluster import VaultCluster, running_vault_cluster
from tests.e2e.figures import figures
from tests.e2e.vault.programs import server_programs

OWN = (
    "test_chart",
    "test_chart_values",
    "test_chart_status_page",
    "test_chart_sync",
    "test_documented_installation",
    "test_kube_store",
    "test_kube_watches",
    "test_sync_api",
    "test_sync_commands",
    "test_synced_secrets",
    "test_lint",
    "test_api_server",
    "test_sync_controller",
    "test_sync_identities",
    "test_sync_upstream_flows",
    "test_sync_lifecycle",
    "test_sync_vault",
    "test_sync_replicas",
    "test_sync_leaks",
    "test_sync_policies",
    "test_sync_installation",
    "test_sync_beside_upstream",
    "test_secret_sync_crd",
    "test_cluster",
    "test_vault_load",
    "test_pod_tokens",
    "test_vault",
    "test_broken_setups",
)
"""The modules that need no cluster or their own; all others share the common cluster."""
FIRST = ("test_article",)
LAST = ("test_full_node", "test_disruptions")
"""The modules that disturb the common cluster."""

_HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--cluster`, so that `make e2e-cluster` can run the two kinds in parallel processes."""
    parser.addoption(
        "--cluster", choices=["own", "common"], help="run only the tests on this kind of cluster"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Download the programs, then leave the network of the machine.

    Other tests in the same process could not download anything afterwards.
    """
    if _asked_for(config):
        asyncio.run(built_programs())
        built_upstream()
        server_programs()
        fetch_keyferry_image()
        promtool_path()
        enter_own_network()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Exclude this folder from `pytest tests/e2e`, and the kind of tests that was not selected."""
    if _HERE not in collection_path.parents:
        return None
    chosen = config.getoption("--cluster", None)
    kind = "own" if collection_path.stem in OWN else "common"
    return None if _asked_for(config) and chosen in {None, kind} else True


def _asked_for(config: pytest.Config) -> bool:
    return any(_HERE.name in argument for argument in config.args)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files into the order in which their tests can run."""
    items.sort(key=lambda item: _place(item.path.stem))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(request: pytest.FixtureRequest) -> AsyncIterator[Installation]:
    """One cluster with Keyferry for all scenarios; each scenario has its own namespace."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_installation(Path(folder)) as running:
            for phase, seconds in running.phases.items():
                figures(request.config).append(f"{phase}: {seconds:.1f} s")
            idle = running.driver_memory()
            figures(request.config).append(f"driver memory when ready: {idle:.0f} MiB")
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bao() -> AsyncIterator[VaultCluster]:
    """Another cluster, whose driver reads from a real OpenBao server, for the Vault tests."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_vault_cluster(Path(folder)) as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def beside(
    request: pytest.FixtureRequest, installed: Installation
) -> AsyncIterator[SideBySide[Namespace]]:
    """All selected scenarios of the common cluster, already running concurrently."""
    chosen = scenarios_of(request.session.items)
    async with running_side_by_side(partial(new_namespace, installed), chosen) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sync_world() -> AsyncIterator[SyncWorld]:
    """A Kubernetes API without nodes, for the tests of the SecretSync controller."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_sync_world(Path(folder)) as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sync_beside(
    request: pytest.FixtureRequest, sync_world: SyncWorld
) -> AsyncIterator[SideBySide[SyncNamespace]]:
    """All selected scenarios with SecretSyncs, already running concurrently."""
    chosen = scenarios_of(request.session.items, SYNC)
    async with running_sync_scenarios(sync_world, chosen, figures(request.config)) as running:
        yield running


def _place(module: str) -> int:
    order = (*OWN, *FIRST)
    if module in order:
        return order.index(module) - len(order)
    return LAST.index(module) + 1 if module in LAST else 0
