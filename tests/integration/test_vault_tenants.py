"""Two namespaces at one Vault on a real socket: neither can make the mounts of the other fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from keyferry.errors import ConnectionFailedError, KeyferryError
from keyferry.providers.api import MountResult
from keyferry.providers.vault.product import OPENBAO, VAULT, Product
from keyferry.records import replace
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.fakes.clock import AutojumpClock, ManualClock
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_certificates import SERVER_NAME_PARAMETER, VaultCertificates
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

SECRET = entry("db", "secret/data/app/db", secretKey="password")
VICTIM, EVIL = FakePod("web-0", "shop/web"), FakePod("evil-0", "evil/web")
POLICY = {"secret/data/*": {"read"}}
ROTATING = ResilienceSettings(
    refresh_interval=120.0, tracks_volumes=True, list_revalidation=False, negative_cache_ttl=0.0
)


def prepare(vault: VaultApi) -> None:
    for namespace in ("shop", "evil"):
        vault.add_role(namespace, accounts=[f"{namespace}/web"], policy=POLICY, audience="")
    vault.write("secret", "app/db", {"password": "1"})


async def mount(mounts: VaultMounts, pod: FakePod, *entries: Any, **parameters: Any) -> Any:
    namespace = pod.account.partition("/")[0]
    return await mounts.mount(*(entries or (SECRET,)), pod=pod, roleName=namespace, **parameters)


async def attack(
    mounts: VaultMounts, *entries: Any, times: int = 10, pod: FakePod = EVIL, **parameters: Any
) -> None:
    """Mount again and again; each mount fails after its retries, in the time of the clock."""
    for _ in range(times):
        with suppress(KeyferryError):
            await mount(mounts, pod, *entries, **parameters)


@pytest.mark.parametrize("product", [VAULT, OPENBAO])
@pytest.mark.parametrize(
    "path",
    [
        "sys/health?activecode=503",
        "sys/health?activecode=429",
        "sys/health?activecode=502",
        "/v1//sys//health?activecode=504",
        "secret/../sys/health?activecode=503",
    ],
)
async def test_chosen_status_neither_opens_a_circuit_nor_pauses_anybody(
    path: str, product: Product
) -> None:
    clock = AutojumpClock()
    async with (
        running_vault() as vault,
        vault_mounts(vault, product=product, clock=clock) as mounts,
    ):
        prepare(vault)
        pods = {each: replace(each, audience=product.audience) for each in (VICTIM, EVIL)}
        await attack(mounts, entry("x", path), pod=pods[EVIL])
        assert vault.request_count("sys/health") >= 40
        elapsed, requests = clock.elapsed, len(vault.audit)
        assert await mount(mounts, pods[VICTIM])
        assert (elapsed, requests + 2) == (clock.elapsed, len(vault.audit))
        assert await mount(mounts, pods[EVIL])
        assert elapsed == clock.elapsed


async def test_tls_errors_of_one_namespace_do_not_open_a_circuit(tmp_path: Path) -> None:
    """A wrong server name, a missing CA, plain HTTP, and no client certificate."""
    made = VaultCertificates(tmp_path)
    trust = {"vaultCACertPath": str(made.ca), **SERVER_NAME_PARAMETER}
    clock = AutojumpClock()
    async with (
        running_vault(context=made.context()) as vault,
        vault_mounts(vault, clock=clock) as mounts,
    ):
        prepare(vault)
        plain = vault.parameters["vaultAddress"].replace("https", "http")
        mistakes: list[dict[str, Any]] = [
            {**trust, "vaultTLSServerName": "nobody.example"},
            {},
            {"vaultAddress": plain},
        ]
        for parameters in mistakes:
            await attack(mounts, times=20, **parameters)
            clock.elapsed += 30.0
            elapsed = clock.elapsed
            assert await mount(mounts, VICTIM, **trust)
            assert await mount(mounts, EVIL, **trust)
            assert elapsed == clock.elapsed


# --- stale content --------------------------------------------------------------------------------


T = TypeVar("T")


class World:
    """A vault, and a provider with rotation. Its clock runs while a mount waits.

    Attributes:
        vault: the vault.
        mounts: mounts from it.
        clock: the time.
    """

    def __init__(self, vault: VaultApi, mounts: VaultMounts, clock: ManualClock) -> None:
        self.vault = vault
        self.mounts = mounts
        self.clock = clock

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`, and advance the clock until it has ended."""
        return await self.clock.run(work)

    async def mount_pod(self, name: str) -> MountResult:
        """Mount the secret for a new pod of the attacker."""
        return await self.run(mount(self.mounts, replace(EVIL, name=name)))

    def revoke(self) -> None:
        """Remove all permissions of the attacker."""
        self.vault.roles["kubernetes", "evil"].policy = {}
        for token in self.vault.tokens.values():
            token.policy = {}


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    clock = ManualClock()
    fetcher = Fetcher(ROTATING, clock)
    async with running_vault() as vault, vault_mounts(vault, fetcher=fetcher) as mounts:
        prepare(vault)
        yield World(vault, mounts, clock)
    await fetcher.close()


async def test_revoked_identity_gets_no_stale_content_by_failing_on_purpose() -> None:
    async with world() as node:
        await node.mount_pod("evil-0")
        await node.clock.advance(60.0)
        node.revoke()
        for number in range(8):
            await node.run(attack(node.mounts, entry("x", "sys/health?activecode=503"), times=2))
            with pytest.raises(KeyferryError, match="permission denied"):
                await node.mount_pod(f"evil-{number + 1}")


async def test_pod_that_starts_during_an_outage_gets_stale_content() -> None:
    """Also when its namespace has opened its circuit breaker: then the vault is asked once."""
    async with world() as node:
        first = await node.mount_pod("evil-0")
        assert first.stale == ()
        await node.clock.advance(60.0)
        node.vault.fault = (503, ["no"])
        await node.run(attack(node.mounts, entry("x", "secret/data/x"), times=3))
        stale = await node.mount_pod("evil-1")
        assert stale.files == first.files
        (content,) = stale.stale
        assert node.vault.parameters["vaultAddress"].endswith(content.vault)
        assert stale.oldest_content_age >= 60.0


async def test_revoked_identity_gets_no_stale_content_with_its_circuit_open() -> None:
    """It made requests fail in any way; the vault is well for the others."""
    async with world() as node:
        await node.mount_pod("evil-0")
        await node.clock.advance(60.0)
        node.vault.fault = (503, ["no"])
        await node.run(attack(node.mounts, entry("x", "secret/data/x"), times=3))
        node.vault.fault = None
        node.revoke()
        with pytest.raises(KeyferryError, match="permission denied"):
            await node.mount_pod("evil-1")


async def test_impostor_is_no_outage(tmp_path: Path) -> None:
    """A server with a wrong certificate must not make pods start with stale content."""
    (tmp_path / "other").mkdir()
    made, impostor = VaultCertificates(tmp_path), VaultCertificates(tmp_path / "other")
    trust = {"vaultCACertPath": str(made.ca), **SERVER_NAME_PARAMETER}
    clock, context = AutojumpClock(), made.context()
    fetcher = Fetcher(ROTATING, clock, random=clock.random)
    async with (
        running_vault(context=context) as vault,
        vault_mounts(vault, clock=clock, fetcher=fetcher) as mounts,
    ):
        prepare(vault)
        await mount(mounts, VICTIM, **trust)
        clock.elapsed += 60.0
        context.load_cert_chain(impostor.folder / "server.crt", impostor.folder / "server.key")
        vault.close_connections()
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionFailedError, match="certificate"):
            await mount(mounts, replace(VICTIM, name="web-1"), **trust)
    await fetcher.close()
