"""Fixtures of the attacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.tenants.arena import Arena, running_arena
from tests.e2e.tenants.bao import BaoArena, running_bao_arena, running_shared_server
from tests.e2e.tenants.keyvault import AzureArena, running_keyvault
from tests.e2e.vault.programs import server_programs
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.tokens import TokenSigner


def pytest_configure() -> None:
    """Download the programs before the time limit of a test begins."""
    server_programs()


@pytest.fixture
async def arena(short_path: Path, show: Callable[[str], None]) -> AsyncIterator[Arena]:
    """A node that an attacker and a victim share."""
    async with running_arena(short_path / "n", show, Arena) as running:
        yield running


@pytest.fixture
async def azure(short_path: Path, show: Callable[[str], None]) -> AsyncIterator[AzureArena]:
    """A node whose tenants have Key Vaults."""
    async with running_keyvault(short_path / "n", show) as running:
        yield running


@pytest.fixture(scope="module")
def signer() -> TokenSigner:
    """Signs the service account tokens of both tenants."""
    return TokenSigner()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory, signer: TokenSigner
) -> AsyncIterator[VaultServer]:
    """A real OpenBao server that both tenants use."""
    async with running_shared_server(tmp_path_factory.mktemp("bao") / "server", signer) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def bao(
    short_path: Path, show: Callable[[str], None], server: VaultServer, signer: TokenSigner
) -> AsyncIterator[BaoArena]:
    """A node whose tenants share the OpenBao server."""
    async with running_bao_arena(short_path / "n", show, server, signer) as running:
        yield running
