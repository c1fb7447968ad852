"""The tests on a cluster run by themselves, in a network of their own.

`pytest tests/e2e` leaves them out, because the whole process moves; `make e2e` runs both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from tests.e2e.cluster.installation import Installation, running_installation
from tests.e2e.cluster.network import enter_own_network
from tests.e2e.cluster.programs import built_programs
from tests.e2e.cluster.side_by_side import SideBySide, running_side_by_side
from tests.e2e.cluster.vault_cluster import VaultCluster, running_vault_cluster
from tests.e2e.figures import figures
from tests.e2e.vault.programs import server_programs

OWN = (
    "test_chart",
    "test_kube_store",
    "test_api_server",
    "test_cluster",
    "test_vault_load",
    "test_pod_tokens",
    "test_vault",
)
"""What needs no cluster or one of its own; all others share one."""
FIRST = ("test_article",)
LAST = ("test_full_node", "test_disruptions")
"""What disturbs the common cluster."""

_HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the two halves run beside each other, in two processes: `make e2e-cluster`."""
    parser.addoption(
        "--cluster", choices=["own", "common"], help="only the tests on a cluster of this kind"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Get what must be downloaded, then leave the network of the machine.

    Other tests of the same process would be cut off from what they download.
    """
    if _asked_for(config):
        asyncio.run(built_programs())
        server_programs()
        enter_own_network()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this folder out of `pytest tests/e2e`, and the half out that was not chosen."""
    if _HERE not in collection_path.parents:
        return None
    chosen = config.getoption("--cluster", None)
    kind = "own" if collection_path.stem in OWN else "common"
    return None if _asked_for(config) and chosen in {None, kind} else True


def _asked_for(config: pytest.Config) -> bool:
    return any(_HERE.name in argument for argument in config.args)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in the order in which their tests can run."""
    items.sort(key=lambda item: _place(item.path.stem))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(request: pytest.FixtureRequest) -> AsyncIterator[Installation]:
    """One cluster with Keyferry installed, for all scenarios; each has a namespace of its own."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_installation(Path(folder)) as running:
            for phase, seconds in running.phases.items():
                figures(request.config).append(f"{phase}: {seconds:.1f} s")
            idle = running.driver_memory()
            figures(request.config).append(f"the driver has {idle:.0f} MiB when it is ready")
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bao() -> AsyncIterator[VaultCluster]:
    """Another cluster, whose driver reads from a real server, for the tests of Vault."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_vault_cluster(Path(folder)) as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def beside(
    request: pytest.FixtureRequest, installed: Installation
) -> AsyncIterator[SideBySide]:
    """All selected scenarios that can run concurrently, started."""
    tests = [item.function for item in request.session.items if isinstance(item, pytest.Function)]
    async with running_side_by_side(installed, tests) as running:
        yield running


def _place(module: str) -> int:
    order = (*OWN, *FIRST)
    if module in order:
        return order.index(module) - len(order)
    return LAST.index(module) + 1 if module in LAST else 0
