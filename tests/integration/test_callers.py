"""Every request to a vault, token endpoint or API says on behalf of which pod it is sent.

Vaults are shared fairly between tenants, so a request without a caller would be unlimited.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.settings import VaultSettings
from keyferry.records import replace
from keyferry.resilience.call_context import CallContext, Caller, Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry.resilience.transport import RetryingTransport
from tests.fakes.azure_mounts import call
from tests.fakes.clock import ManualClock
from tests.fakes.devvault import running_devvault
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_mounts import FakePod, entry, vault_mounts

WEB = Caller("shop", "web")
REFRESHED_AT_ONCE = ResilienceSettings(refresh_interval=0.0, tracks_volumes=True)


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[CallContext]:
    """Record the context of each request."""
    seen: list[CallContext] = []
    send = RetryingTransport.send

    async def recording(self: RetryingTransport, attempt: Any, context: CallContext) -> Any:
        seen.append(context)
        return await send(self, attempt, context)

    monkeypatch.setattr(RetryingTransport, "send", recording)
    return seen


async def test_requests_of_an_azure_mount_name_the_pod(
    tmp_path: Path, contexts: list[CallContext]
) -> None:
    """The token, the object, and the list that revalidates it."""
    fetcher = Fetcher(REFRESHED_AT_ONCE)
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", "1")
        identity = "11111111-0000-4000-8000-000000000001"
        vault.add_managed_identity(identity)
        vault.grant("contoso", identity)
        provider = AzureProvider(
            HttpsClient(vault.emulator.https), fetcher, emulator=vault.emulator
        )
        parameters = {"useVMManagedIdentity": "true", "userAssignedIdentityID": identity}
        mount = replace(call(parameters), target_path="/v")
        await provider.mount(mount)
        await provider.mount(replace(mount, purpose=Purpose.REFRESH))
        await provider.close()
    await fetcher.close()
    assert len(contexts) >= 3
    assert {WEB} == {context.caller for context in contexts}


async def test_requests_of_a_vault_mount_name_the_pod(contexts: list[CallContext]) -> None:
    """The login, the secret, the list, and a lease: created, renewed and revoked."""
    clock = ManualClock()
    fetcher = Fetcher(REFRESHED_AT_ONCE, clock)
    policy = {"secret/*": {"read", "list"}, "database/creds/*": {"read"}}
    entries = (
        entry("db", "secret/data/app/db", secretKey="password"),
        entry("user", "database/creds/app", secretKey="username"),
    )
    async with (
        running_vault() as vault,
        vault_mounts(vault, fetcher=fetcher, settings=VaultSettings(renew_leases=False)) as mounts,
    ):
        vault.add_role("app", accounts=["shop/web"], policy=policy)
        vault.write("secret", "app/db", {"password": "1"})
        mount = mounts.call(*entries, pod=FakePod())
        await mounts.provider.mount(mount)
        await mounts.provider.mount(replace(mount, purpose=Purpose.REFRESH))
        vault.now += 45
        await mounts.provider.leases.renew_due()
        mounts.provider.volume_removed(mount.target_path)
        while vault.database_users:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await fetcher.close()
    assert len(contexts) >= 6
    assert {WEB} == {context.caller for context in contexts}


async def test_slow_first_login_of_one_tenant_does_not_delay_another() -> None:
    """Even at the same auth method, where pods of one tenant wait for the first login."""
    fetcher = Fetcher(REFRESHED_AT_ONCE)
    async with running_vault() as vault, vault_mounts(vault, fetcher=fetcher) as mounts:
        for name in ("shop", "evil"):
            vault.add_role(name, accounts=[f"{name}/web"], policy={"secret/*": {"read"}})
        vault.write("secret", "app/db", {"password": "1"})
        secret = entry("db", "secret/data/app/db", secretKey="password")
        release = asyncio.Event()
        send = mounts.provider._services.transport._http.send

        async def slow_for_evil(server: Any, request: Any, seconds: float) -> Any:
            if b'"evil"' in (request.body or b""):
                await release.wait()
            return await send(server, request, seconds)

        mounts.provider._services.transport._http.send = slow_for_evil  # type: ignore[method-assign]
        evil = asyncio.create_task(
            mounts.mount(secret, pod=FakePod("evil-0", "evil/web"), roleName="evil")
        )
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            await mounts.mount(secret, pod=FakePod("web-0", "shop/web"), roleName="shop")
        assert not evil.done()
        release.set()
        await evil
    await fetcher.close()
