"""LeaseManager with a vault on a real socket: the life of dynamic secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from keyferry.errors import KeyferryError, MountLimitError
from keyferry.providers.settings import VaultSettings
from keyferry.providers.vault.http.client import VaultRequest
from keyferry.providers.vault.http.server import Server
from keyferry.providers.vault.leases import manager
from keyferry.providers.vault.leases.lease import Lease
from keyferry.providers.vault.leases.manager import MAX_LEASE_BYTES
from keyferry.records import replace
from keyferry.resilience.call_context import CallContext
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import ManualClock
from tests.fakes.log import captured_log
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import FakeToken
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

CREDS = "database/creds/app"
USER = entry("user", CREDS, secretKey="username")
PASSWORD = entry("password", CREDS, secretKey="password")
STORED = entry("stored", "secret/data/app/db", secretKey="password")
CERT = entry("cert", "pki/issue/r", method="PUT", secretArgs={"common_name": "a"})
POLICY = {
    "database/creds/*": {"read"},
    "secret/data/app/*": {"read"},
    "pki/issue/*": {"update"},
}
WEB0, WEB1 = FakePod("web-0"), FakePod("web-1")


@pytest.fixture
async def vault() -> AsyncIterator[VaultApi]:
    """Run a vault whose role `app` creates database users for 60 s, at most 600 s."""
    async with running_vault() as running:
        running.add_role("app", accounts=["shop/web"], policy=POLICY)
        running.write("secret", "app/db", {"password": "x"})
        yield running


@pytest.fixture
async def mounts(vault: VaultApi) -> AsyncIterator[VaultMounts]:
    """Return mounts without background renewal: the test decides when leases are checked."""
    async with vault_mounts(vault, settings=VaultSettings(renew_leases=False)) as provider_mounts:
        yield provider_mounts


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_secret_that_is_too_large_to_be_tracked_is_revoked(
    vault: VaultApi, mounts: VaultMounts
) -> None:
    """It would stay in memory for as long as its Pod runs."""
    vault.password_suffix = "x" * MAX_LEASE_BYTES
    with pytest.raises(MountLimitError, match=f"at {CREDS} takes"):
        await mounts.mount(USER)
    await until(lambda: not vault.database_users)
    assert 0 == len(mounts.provider.leases)
    vault.password_suffix = ""
    assert 1 == len(await mounts.files(USER))


async def test_tenant_has_a_bounded_number_of_bytes_in_dynamic_secrets(
    vault: VaultApi, mounts: VaultMounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing a secret does not count twice, and other tenants have their own bytes."""
    monkeypatch.setattr(manager, "MAX_TENANT_BYTES", 30_000)
    vault.add_role("app", accounts=["shop/web", "evil/web"], policy=POLICY)
    vault.password_suffix = "x" * 10_000
    for name in ("evil-0", "evil-1"):
        await mounts.mount(USER, pod=FakePod(name, account="evil/web"))
    with pytest.raises(MountLimitError, match="namespace 'evil' on this node take more than"):
        await mounts.mount(USER, pod=FakePod("evil-2", account="evil/web"))
    await mounts.mount(USER, pod=WEB0)
    vault.now += 590
    await mounts.mount(USER, pod=FakePod("evil-1", account="evil/web"))
    mounts.provider.volume_removed(FakePod("evil-0").target)
    await mounts.mount(USER, pod=FakePod("evil-2", account="evil/web"))


async def renew_due(mounts: VaultMounts) -> None:
    """Do what the background does every few seconds."""
    await mounts.provider.leases.renew_due()


class TestOnePod:
    """A database user of one pod."""

    async def test_user_and_password_are_of_one_lease_and_stay(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """At each refresh of the volume."""
        first = await mounts.files(USER, PASSWORD)
        assert first["password"].endswith(first["user"])
        for _ in range(5):
            assert first == await mounts.files(USER, PASSWORD)
        assert 1 == vault.request_count(CREDS)

    async def test_lease_is_renewed_before_it_expires(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """By a refresh or in the background."""
        first = await mounts.files(USER)
        for look in range(8):
            vault.now += 45
            await (mounts.files(USER) if look % 2 else renew_due(mounts))
        assert first == await mounts.files(USER)
        assert {first["user"].decode()} == vault.database_users

    async def test_token_of_a_lease_is_renewed(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """A lease expires with its token."""
        vault.lease_ttl, vault.lease_max_ttl = 100_000, 100_000
        first = await mounts.files(USER)
        for _ in range(10):
            vault.now += 900
            await renew_due(mounts)
        assert {first["user"].decode()} == vault.database_users
        assert 1 == vault.request_count("auth/kubernetes/login")

    async def test_lease_at_its_max_ttl_is_replaced_once(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Not before it is due."""
        first = await mounts.files(USER)
        for _ in range(13):
            vault.now += 45
            await renew_due(mounts)
        assert first["user"].decode() in vault.database_users
        second = await mounts.files(USER)
        assert first != second
        assert second == await mounts.files(USER)
        assert 2 == vault.request_count(CREDS)

    async def test_revoked_lease_is_replaced_once(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """An administrator revoked it, so its renewal is rejected."""
        first = await mounts.files(USER)
        vault.leases.clear()
        vault.now += 45
        second = await mounts.files(USER)
        assert first != second
        assert second == await mounts.files(USER)

    async def test_valid_secret_is_kept_during_an_outage(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Until the vault is available again."""
        first = await mounts.files(USER)
        vault.now += 45
        vault.fault = (503, ["Vault is sealed"])
        assert first == await mounts.files(USER)
        vault.fault = None
        await renew_due(mounts)
        vault.now += 10
        await renew_due(mounts)
        assert {first["user"].decode()} == vault.database_users

    async def test_lease_is_revoked_with_its_last_volume(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Two volumes of a pod share one user."""
        call = mounts.call(USER)
        await mounts.provider.mount(call)
        other = replace(mounts.call(PASSWORD), target_path="/another/volume")
        await mounts.provider.mount(other)
        assert 1 == vault.request_count(CREDS)
        vault.tokens[next(iter(vault.tokens))].policy = {
            **POLICY,
            "sys/leases/revoke": {"update"},
        }
        mounts.provider.volume_removed("/another/volume")
        assert vault.database_users
        mounts.provider.volume_removed(call.target_path)
        await until(lambda: not vault.database_users)

    async def test_lease_of_a_removed_object_is_revoked(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """At the next refresh."""
        vault.add_role("jwt", mount="jwt", accounts=["shop/web"], policy=POLICY)
        where: dict[str, Any] = {"vaultAuthMountPath": "jwt", "roleName": "jwt"}
        await mounts.mount(USER, **where)
        await mounts.mount(entry("db", "secret/data/app/db"), **where)
        await until(lambda: not vault.database_users)

    async def test_certificate_is_kept_until_it_is_due_for_replacement(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Although it has no lease."""
        first = await mounts.files(CERT)
        vault.now += 2000
        assert first == await mounts.files(CERT)
        vault.now += 1000
        assert first != await mounts.files(CERT)
        assert 2 == vault.request_count("pki/issue/r")


class TestPods:
    """Several pods of one service account."""

    async def test_each_pod_has_its_own_user(self, vault: VaultApi, mounts: VaultMounts) -> None:
        """Also if all pods read at the same time before the path is known to give leases."""
        pods = [FakePod(f"web-{number}") for number in range(10)]
        users = await asyncio.gather(*(mounts.files(USER, pod=pod) for pod in pods))
        again = await asyncio.gather(*(mounts.files(USER, pod=pod) for pod in pods))
        assert 10 == len({files["user"] for files in users})
        assert users == again
        assert 10 == len(vault.database_users)

    async def test_removed_pod_revokes_only_its_own_user(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """With its own token, which the default policy permits to revoke. Other users stay."""
        await mounts.files(USER, pod=FakePod("first"))
        remaining = await mounts.files(USER, pod=WEB0)
        removed = await mounts.files(USER, pod=WEB1)
        mounts.provider.volume_removed(WEB1.target)
        await until(lambda: removed["user"].decode() not in vault.database_users)
        assert remaining["user"].decode() in vault.database_users
        assert 0 == vault.request_count("sys/leases/revoke")

    async def test_first_pod_keeps_the_token_that_it_shared(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """It becomes the pod's own token. Other pods log in again."""
        db = entry("db", "secret/data/app/db")
        await mounts.files(USER, db, pod=WEB0)
        await mounts.files(db, pod=WEB1)
        mounts.provider.volume_removed(WEB0.target)
        await until(lambda: not vault.database_users)
        await mounts.files(db, pod=WEB1)
        assert 2 == vault.request_count("auth/kubernetes/login")

    async def test_token_from_the_pods_secret_is_not_revoked(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """It does not belong to Keyferry. The log reports a lease that may not be revoked."""
        vault.tokens["own"] = FakeToken(POLICY, 100_000, 100_000, renewable=False)
        own: dict[str, Any] = {"vaultAuthMethod": "token"}
        await mounts.mount(USER, secrets={"token": "own"}, **own)
        with captured_log() as log:
            mounts.provider.volume_removed(WEB0.target)
            await until(lambda: "sys/leases/revoke" in log.getvalue())
        assert vault.database_users
        vault.now += 60
        assert not vault.database_users

    async def test_pod_logs_in_once_for_all_its_leases(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """After the paths are known to give leases."""
        users = [entry(str(n), f"database/creds/app{n}", secretKey="username") for n in range(4)]
        await mounts.files(*users, pod=WEB0)
        before = vault.request_count("auth/kubernetes/login")
        await mounts.files(*users, pod=WEB1)
        assert before + 1 == vault.request_count("auth/kubernetes/login")
        mounts.provider.volume_removed(WEB1.target)
        await until(lambda: 4 == len(vault.database_users))
        assert 1 == vault.request_count("auth/token/revoke-self")

    async def test_lease_of_a_cancelled_mount_is_not_renewed(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """No unpublish would ever revoke it."""
        await mounts.files(USER, pod=WEB0)
        for lease in mounts.provider.leases:
            lease.volumes.clear()
        vault.now += 45
        await renew_due(mounts)
        vault.now += 15
        await renew_due(mounts)
        assert not vault.database_users
        assert 0 == len(mounts.provider.leases)

    async def test_stored_secrets_are_shared_by_pods(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Regardless of the leases that the pods read."""
        pods = [FakePod(f"web-{number}") for number in range(10)]
        db = entry("db", "secret/data/app/db")
        await asyncio.gather(*(mounts.files(USER, db, pod=pod) for pod in pods))
        assert 1 == vault.request_count("secret/data/app/db")


class TestVolumeLiveness:
    """Behind another driver: only its mount calls show that a pod exists."""

    @pytest.fixture
    async def mounts(self, vault: VaultApi) -> AsyncIterator[VaultMounts]:
        """Return mounts without background renewal."""
        vault.lease_max_ttl = 100_000
        settings = VaultSettings(renew_leases=False, lease_idle_seconds=600)
        async with vault_mounts(vault, settings=settings) as provider_mounts:
            yield provider_mounts

    async def pass_time(self, vault: VaultApi, mounts: VaultMounts, seconds: int) -> None:
        """Let time pass with checks of the background."""
        for _ in range(seconds // 15):
            vault.now += 15
            await renew_due(mounts)

    async def test_lease_is_renewed_between_polls(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """Also if the interval between polls is longer than the lease."""
        first = await mounts.files(USER)
        for _ in range(5):
            await self.pass_time(vault, mounts, 300)
            assert first == await mounts.files(USER)
        assert 1 == vault.request_count(CREDS)

    async def test_lease_of_an_idle_volume_expires(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """It is not renewed after ten minutes, and not revoked, because the pod may exist."""
        await mounts.files(USER)
        await self.pass_time(vault, mounts, 600)
        assert vault.database_users
        await self.pass_time(vault, mounts, 120)
        assert not vault.database_users
        assert 0 == len(mounts.provider.leases)
        assert 0 == vault.request_count("auth/token/revoke-self")
        assert () == mounts.provider.expiring_leases()

    async def test_idle_time_adapts_to_rare_polls(
        self, vault: VaultApi, mounts: VaultMounts
    ) -> None:
        """It is three times the longest interval."""
        await mounts.files(USER)
        await self.pass_time(vault, mounts, 1200)
        assert not vault.database_users
        second = await mounts.files(USER)
        for _ in range(3):
            await self.pass_time(vault, mounts, 3300)
            assert second == await mounts.files(USER)
        assert 2 == vault.request_count(CREDS)


async def test_lease_that_cannot_be_renewed_is_reported_until_it_is_replaced(
    vault: VaultApi, mounts: VaultMounts
) -> None:
    """For its volume, with its path and expiry, and not before."""
    await mounts.files(USER)
    assert () == mounts.provider.expiring_leases()
    for _ in range(13):
        vault.now += 45
        await renew_due(mounts)
    (ending,) = mounts.provider.expiring_leases()
    assert WEB0.target == ending.target_path
    assert f"secret {CREDS}" == ending.expiry.object_name
    assert vault.wall < ending.expiry.expires_at <= vault.wall + 60
    await mounts.files(USER)
    assert () == mounts.provider.expiring_leases()


async def test_lease_that_has_expired_is_reported_until_a_mount_replaces_it(
    vault: VaultApi, mounts: VaultMounts
) -> None:
    """Its volume was not refreshed in time; each volume needs its own refresh."""
    own = mounts.call(USER)
    other = replace(mounts.call(PASSWORD), target_path="/another/volume")
    await mounts.provider.mount(own)
    await mounts.provider.mount(other)
    vault.fault = (503, ["Vault is sealed"])
    vault.now += 61
    await renew_due(mounts)
    assert 0 == len(mounts.provider.leases)
    assert {WEB0.target, "/another/volume"} == expiring_volumes(mounts)
    assert vault.wall > mounts.provider.expiring_leases()[0].expiry.expires_at
    with pytest.raises(KeyferryError, match="sealed"):
        await mounts.provider.mount(own)
    assert {WEB0.target, "/another/volume"} == expiring_volumes(mounts)
    vault.fault = None
    await mounts.provider.mount(own)
    assert {"/another/volume"} == expiring_volumes(mounts)
    mounts.provider.volume_removed("/another/volume")
    assert () == mounts.provider.expiring_leases()


async def test_expired_lease_of_a_removed_object_is_not_reported(
    vault: VaultApi, mounts: VaultMounts
) -> None:
    """The volume does not use it any more, so no refresh would replace it."""
    await mounts.files(USER)
    vault.now += 61
    await renew_due(mounts)
    assert {WEB0.target} == expiring_volumes(mounts)
    await mounts.files(STORED)
    assert () == mounts.provider.expiring_leases()


def expiring_volumes(mounts: VaultMounts) -> set[str]:
    return {lease.target_path for lease in mounts.provider.expiring_leases()}


async def test_leases_are_renewed_in_the_background(vault: VaultApi) -> None:
    """No mount is necessary."""
    async with vault_mounts(vault) as mounts:
        first = await mounts.files(USER)
        (lease,) = mounts.provider.leases
        for expected in (105.0, 150.0):
            vault.now += 45
            await until(partial(_expires_at, lease, expected))
        assert 2 == vault.request_count("sys/leases/renew")
        assert {first["user"].decode()} == vault.database_users


def _expires_at(lease: Lease, expected: float) -> bool:
    return expected == lease.lease_expires_at


async def test_lease_whose_renewal_is_answered_late_is_renewed_again(vault: VaultApi) -> None:
    """By then, most of the new time is over, but the vault has renewed the lease for all of it."""
    async with vault_mounts(vault, settings=VaultSettings(renew_leases=False)) as mounts:
        await mounts.files(USER)
        (lease,) = mounts.provider.leases
        transport = mounts.provider.leases._client._transport
        send = transport.send

        async def answer_late(server: Server, request: VaultRequest, context: CallContext) -> Any:
            response = await send(server, request, context)
            vault.now += 45
            return response

        transport.send = answer_late  # type: ignore[method-assign]
        vault.now += 45
        for expected in (105.0, 150.0, 195.0):
            await renew_due(mounts)
            assert expected == lease.lease_expires_at
            assert lease.renewable


async def test_dynamic_secret_is_not_cached(
    vault: VaultApi,
) -> None:
    """Neither its size nor its age counts as cached content."""
    clock = ManualClock()
    fetcher = Fetcher(ResilienceSettings(refresh_interval=120.0, tracks_volumes=True), clock)
    settings = VaultSettings(renew_leases=False)
    async with vault_mounts(vault, settings=settings, fetcher=fetcher) as mounts:
        await mounts.files(USER)
        assert (0, None) == (fetcher.cache_bytes, fetcher.oldest_content_age)
        await mounts.files(USER, STORED)
        clock.now += 1000
        assert 1000.0 == fetcher.oldest_content_age
        await mounts.files(USER)  # the class was edited
        assert fetcher.oldest_content_age is None
    await fetcher.close()


async def test_vault_that_hangs_delays_no_renewal_for_other_namespaces(vault: VaultApi) -> None:
    """One that starts while another renewal is in flight."""
    vault.add_role("evil", accounts=["evil/web"], policy=POLICY)
    async with vault_mounts(vault) as mounts:
        leases, renewed = mounts.provider.leases, list[str]()
        renew = leases._client.renew

        async def hang_for_evil(lease: Lease) -> None:
            renewed.append(lease.result.origin.caller.tenant)
            if renewed[-1] == "evil":
                await asyncio.Event().wait()
            await renew(lease)

        leases._client.renew = hang_for_evil  # type: ignore[method-assign]
        await mounts.files(USER, pod=FakePod("evil-0", "evil/web"), roleName="evil")
        vault.now += 30
        await mounts.files(USER)
        vault.now += 15
        await until(lambda: renewed == ["evil"])
        vault.now += 28
        await until(lambda: renewed == ["evil", "shop"])
