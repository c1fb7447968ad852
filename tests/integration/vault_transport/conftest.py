"""A vault with one secret, and mounts from it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_mounts import VaultMounts, vault_mounts
from tests.integration.vault_transport.preparation import prepare


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    async with running_vault() as running:
        prepare(running)
        yield running


@pytest.fixture
async def mounts(vault: VaultApi) -> AsyncIterator[VaultMounts]:
    async with vault_mounts(vault) as found:
        yield found
