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


def pytest_configure() -> None:
    """Get what must be downloaded, then leave the network of the machine."""
    asyncio.run(built_programs())
    enter_own_network()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this folder out of `pytest tests/e2e`."""
    here = Path(__file__).parent
    asked_for = any(here.name in argument for argument in config.args)
    return None if asked_for or here not in collection_path.parents else True


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed() -> AsyncIterator[Installation]:
    """One cluster with Keyferry installed, for all scenarios; each has namespaces of its own."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_installation(Path(folder)) as running:
            yield running
