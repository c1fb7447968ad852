"""A mount reports the age of the oldest content that it got from the cache, for every provider.

The driver needs the age so that an old value from the cache of one node never replaces a newer
value that another node wrote to a shared Secret.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall, MountResult
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.records import replace
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.azure_mounts import call
from tests.fakes.clock import ManualClock
from tests.fakes.devvault import running_devvault
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_mounts import FakePod, entry, vault_mounts

MI = "11111111-0000-4000-8000-000000000001"
LIMITS = ResilienceSettings(
    cache_ttl=15.0, refresh_interval=120.0, tracks_volumes=True, list_revalidation=False
)

Mount = Callable[[MountCall], Awaitable[MountResult]]
MakeCall = Callable[[str], MountCall]


@asynccontextmanager
async def azure(folder: Path, fetcher: Fetcher) -> AsyncIterator[tuple[Mount, MakeCall]]:
    """Yield the mounts of pods that read one secret of a Key Vault."""
    async with running_devvault(folder) as vault:
        vault.set_secret("contoso", "db-password", "1")
        vault.add_managed_identity(MI)
        vault.grant("contoso", MI)
        provider = AzureProvider(
            HttpsClient(vault.emulator.https), fetcher, emulator=vault.emulator
        )
        identity = {"useVMManagedIdentity": "true", "userAssignedIdentityID": MI}
        try:
            yield provider.mount, lambda pod: replace(call(identity), target_path=f"/{pod}")
        finally:
            await provider.close()


@asynccontextmanager
async def vault_like(product: Product, fetcher: Fetcher) -> AsyncIterator[tuple[Mount, MakeCall]]:
    """Yield the mounts of pods that read one secret of a Vault or OpenBao server."""
    secret = entry("db", "secret/data/app/db", secretKey="password")
    async with (
        running_vault() as vault,
        vault_mounts(vault, product=product, fetcher=fetcher) as mounts,
    ):
        vault.write("secret", "app/db", {"password": "1"})
        policy = {"secret/data/*": {"read"}}
        vault.add_role("app", accounts=["shop/web"], policy=policy, audience="")
        yield (
            mounts.provider.mount,
            lambda pod: mounts.call(secret, pod=FakePod(pod, audience=product.audience)),
        )


@pytest.mark.parametrize("provider", ["azure", "vault", "openbao"])
async def test_mount_reports_the_age_of_cached_content(tmp_path: Path, provider: str) -> None:
    """Content that was requested for this mount has age 0, also after a refresh."""
    clock = ManualClock()
    fetcher = Fetcher(LIMITS, clock)
    running = (
        azure(tmp_path, fetcher)
        if provider == "azure"
        else vault_like(VAULT if provider == "vault" else OPENBAO, fetcher)
    )
    async with running as (mount, call_for):
        first = await mount(call_for("web-0"))
        assert 0.0 == first.oldest_content_age
        clock.now += 10.0
        cached = await mount(call_for("web-1"))
        assert 10.0 == cached.oldest_content_age
        clock.now += 120.0
        refreshed = await mount(replace(call_for("web-1"), purpose=Purpose.REFRESH))
        assert 0.0 == refreshed.oldest_content_age
    await fetcher.close()
