"""A vault that throttles: nobody hammers it, and in the end everybody has what they came for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.resilience.fetcher import Fetcher
from keyferry_devvault.http_types import RequestKind
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import DEFAULT_TENANT, RespondStatus, running_devvault
from tests.fakes.resilience import uncached_fetcher

IDENTITIES = [f"77777777-0000-4000-8000-{number:012}" for number in range(4)]
NAMES = [f"object-{number}" for number in range(10)]


def call(identity: str) -> MountCall:
    """A mount of all objects."""
    entries = [{"objectName": name, "objectType": "secret"} for name in NAMES]
    return MountCall(
        {
            POD_NAME: "web-0",
            POD_NAMESPACE: "shop",
            "useVMManagedIdentity": "true",
            "userAssignedIdentityID": identity,
            "keyvaultName": "contoso",
            "tenantID": DEFAULT_TENANT,
            "objects": json.dumps({"array": [json.dumps(entry) for entry in entries]}),
        }
    )


async def test_overloaded_vault_eventually_serves_all_mounts(tmp_path: Path) -> None:
    """Forty requests at ten per second; each is throttled at most a few times."""
    async with running_devvault(tmp_path) as vault:
        for name in NAMES:
            vault.set_secret("contoso", name, name)
        for identity in IDENTITIES:
            vault.add_managed_identity(identity)
            vault.grant("contoso", identity)
        vault.tune(throttle_per_second=10, retry_after_seconds=1)
        fetcher = Fetcher()
        provider = AzureProvider(
            HttpsClient(vault.emulator.https), fetcher, emulator=vault.emulator
        )
        try:
            results = await asyncio.gather(
                *(provider.mount(call(identity)) for identity in IDENTITIES for _ in range(5))
            )
        finally:
            await provider.close()
            await fetcher.close()
        assert {10} == {len(result.files) for result in results}
        assert 40 == vault.count(RequestKind.SECRET, status=200)
        # The first forty go at once, because nobody knows the limit yet; then they are fewer.
        assert vault.count(RequestKind.SECRET, status=429) <= 3 * 40


async def test_throttling_of_one_identity_delays_the_others(tmp_path: Path) -> None:
    """Retry-After applies to all requests to the vault."""
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db", "x")
        for identity in IDENTITIES:
            vault.add_managed_identity(identity)
            vault.grant("contoso", identity)
        vault.add_fault("contoso.vault.azure.net", RespondStatus(429, retry_after=7))
        clock = AutojumpClock()
        provider = AzureProvider(
            HttpsClient(vault.emulator.https),
            uncached_fetcher(clock),
            clock=clock,
            emulator=vault.emulator,
        )
        entry = json.dumps({"objectName": "db", "objectType": "secret"})
        calls = [call(identity).attributes for identity in IDENTITIES]
        try:
            await asyncio.gather(
                *(
                    provider.mount(MountCall({**one, "objects": json.dumps({"array": [entry]})}))
                    for one in calls
                )
            )
        finally:
            await provider.close()
        # One pause, by one clock, for all of them.
        assert 7.0 == clock.sleeps[0]
        assert sum(clock.sleeps) < 8.0
