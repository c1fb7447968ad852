"""A development vault, and a provider that reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.providers.azure.provider import AzureProvider
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import DEFAULT_TENANT, DevVault, running_devvault
from tests.integration.azure.calls import APP, CLIENT_SECRET, MI, SUBJECT, VALUE, provider_for


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVault]:
    """A vault `contoso` that holds `db-password` and lets MI and APP read."""
    async with running_devvault(tmp_path) as running:
        running.set_secret("contoso", "db-password", VALUE)
        running.add_managed_identity(MI, tenant=DEFAULT_TENANT)
        running.add_app(APP, tenant=DEFAULT_TENANT, secret=CLIENT_SECRET)
        running.federate(APP, subject=SUBJECT)
        running.grant("contoso", MI)
        running.grant("contoso", APP)
        yield running


@pytest.fixture
def clock() -> AutojumpClock:
    """Pauses that take no time."""
    return AutojumpClock()


@pytest.fixture
async def provider(vault: DevVault, clock: AutojumpClock) -> AsyncIterator[AzureProvider]:
    """The provider, redirected to the vault."""
    async with provider_for(vault.emulator.https, clock) as made:
        yield made
