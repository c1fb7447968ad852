"""The comparison runs separately, in its own network namespace: `make compat`.

`pytest tests` leaves it out, because the whole process moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from tests.compat.bao_comparison import BaoComparison, running_bao_comparison
from tests.compat.comparison import Comparison, running_comparison
from tests.compat.upstream import built_upstream
from tests.compat.vault_contents import LOAD_VAULT, VAULT
from tests.compat.world import enter_own_world
from tests.e2e.cluster.programs import built_programs
from tests.e2e.vault.programs import server_programs


def pytest_configure() -> None:
    """Get what must be downloaded, then leave the machine's network and names."""
    asyncio.run(built_programs())
    built_upstream()
    server_programs()
    enter_own_world([VAULT, LOAD_VAULT])


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this folder out unless it was asked for."""
    here = Path(__file__).parent
    asked_for = any(here.name in argument for argument in config.args)
    return None if asked_for or here not in (collection_path, *collection_path.parents) else True


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def compared() -> AsyncIterator[Comparison]:
    """All four stacks, and what became of each case in each of them."""
    with TemporaryDirectory(prefix="kf-", dir="/tmp") as folder:
        async with running_comparison(Path(folder)) as running:
            yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bao_compared() -> AsyncIterator[BaoComparison]:
    """Keyferry's Vault provider in three stacks, with the outcome of each case."""
    with TemporaryDirectory(prefix="kf-", dir="/tmp") as folder:
        async with running_bao_comparison(Path(folder)) as running:
            yield running
