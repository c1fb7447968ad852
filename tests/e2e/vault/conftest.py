"""One server for all tests of a module, and a node that reads from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.node import BareNode, running_bare_node
from tests.e2e.vault.engines import allow, enable_jwt, enable_kv, jwt_role, put_kv
from tests.e2e.vault.postgres import Postgres, running_postgres
from tests.e2e.vault.programs import go_reader, server_programs
from tests.e2e.vault.server import VaultServer, running_server
from tests.e2e.vault.tokens import TokenSigner


def pytest_configure() -> None:
    """Download the programs before the time limit of a test begins."""
    server_programs()
    go_reader()


@pytest.fixture(scope="module")
def signer() -> TokenSigner:
    """Return the signer of the pods' tokens."""
    return TokenSigner()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vault(
    tmp_path_factory: pytest.TempPathFactory, signer: TokenSigner
) -> AsyncIterator[VaultServer]:
    """Run a server with KV engines `kv1` and `kv2`, and a role `web` that may read `db` of both."""
    async with running_server(tmp_path_factory.mktemp("vault") / "server") as server:
        await enable_kv(server, "kv1", version=1)
        await enable_kv(server, "kv2", version=2)
        await put_kv(server, "kv1/db", username="shop", password="v1-s3cret")
        await put_kv(server, "kv2/data/db", username="shop", password="first")
        await put_kv(server, "kv2/data/db", username="shop", password="second")
        await allow(server, "read-db", "kv1/db", "kv2/data/db")
        await enable_jwt(server, signer)
        await jwt_role(server, "web", "read-db")
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postgres() -> AsyncIterator[Postgres]:
    """Run a PostgreSQL server."""
    async with running_postgres() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def node(tmp_path: Path) -> AsyncIterator[BareNode]:
    """Return a node. The test starts the driver."""
    async with running_bare_node(tmp_path) as running:
        yield running
