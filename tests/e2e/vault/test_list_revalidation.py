"""List revalidation: one list request replaces many reads, counted in OpenBao's audit log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from keyferry.errors import AccessDeniedError, ObjectNotFoundError
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.api import MountCall
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.settings import VaultSettings
from keyferry.providers.vault.product import OPENBAO
from keyferry.providers.vault.provider import VaultProvider
from keyferry.records import replace
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from tests.e2e.vault.classes import Entry, entry
from tests.e2e.vault.engines import jwt_role, put_kv
from tests.e2e.vault.server import VaultServer
from tests.e2e.vault.test_provider_socket import call
from tests.e2e.vault.tokens import TokenSigner

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

INTERVAL = 120.0
NAMES = [f"s{number}" for number in range(12)]


@dataclass
class RefreshedPod:
    """A pod with twelve secrets in one folder, and a clock that tests move.

    Attributes:
        vault: server with the secrets.
        mount_call: mount call for its volume.
        provider: the provider.
        fetcher: its cache and rate limits.
        ahead: seconds by which the clock is ahead.
    """

    vault: VaultServer
    mount_call: MountCall
    provider: VaultProvider | None = None
    fetcher: Fetcher | None = None
    ahead: float = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def wall(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.ahead, UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.get_running_loop().create_future()

    async def mount(self, purpose: Purpose = Purpose.REFRESH) -> list[bytes]:
        """Mount and return the content of the files."""
        assert self.provider is not None
        result = await self.provider.mount(replace(self.mount_call, purpose=purpose))
        return [file.contents for file in result.files]

    async def refresh(self) -> tuple[int, int]:
        """Refresh one interval later, and return its list and read requests."""
        self.ahead += INTERVAL
        mark = self.vault.audit.mark()
        await self.mount()
        return self.requests_since(mark)

    def requests_since(self, mark: int) -> tuple[int, int]:
        """Return the list and read requests of its engine after a position of the audit log."""
        asked = [one for one in self.vault.audit.entries(after=mark) if one.path.startswith("kv2/")]
        lists = sum(one.operation == "list" for one in asked)
        return lists, len(asked) - lists

    def fetches(self, result: str) -> float:
        """Return the number of fetches with a result."""
        assert self.fetcher is not None
        total = 0.0
        for family in self.fetcher.metrics.registry.collect():
            for sample in family.samples:
                if sample.name != "keyferry_object_requests_total":
                    continue
                if sample.labels["result"] == result:
                    total += sample.value
        return total


@asynccontextmanager
async def running_pod(
    vault: VaultServer,
    signer: TokenSigner,
    folder: str,
    *rules: str,
    objects: Sequence[Entry] = (),
    list_revalidation: bool = True,
) -> AsyncIterator[RefreshedPod]:
    """Run a mounted pod whose role may read its secrets and list the paths `rules`."""
    for name in NAMES:
        await put_kv(vault, f"kv2/data/{folder}{name}", password=f"first {name}")
    policy = [f'path "kv2/data/{folder}*" {{ capabilities = ["read"] }}']
    policy += [f'path "{rule}" {{ capabilities = ["list"] }}' for rule in rules]
    policy_name = f"revalidation-{folder.replace('/', '-')}"
    await vault.write(f"sys/policies/acl/{policy_name}", {"policy": "\n".join(policy)})
    await jwt_role(vault, "revalidation", policy_name, bound_audiences=["openbao"])
    entries = objects or [entry(name, f"kv2/data/{folder}{name}", "password") for name in NAMES]
    pod = RefreshedPod(vault, call(vault, signer, "openbao", *entries, roleName="revalidation"))
    settings = ResilienceSettings(
        refresh_interval=INTERVAL, tracks_volumes=True, list_revalidation=list_revalidation
    )
    pod.fetcher = Fetcher(settings, pod)
    pod.provider = VaultProvider(
        OPENBAO,
        HttpsClient(HttpsSettings()),
        pod.fetcher,
        VaultSettings(),
        restrictions=UNRESTRICTED,
        clock=pod,
    )
    try:
        await pod.mount(Purpose.FIRST)
        yield pod
    finally:
        await pod.provider.close()
        await pod.fetcher.close()


def listing(folder: str) -> str:
    """Return the policy rules that list revalidation needs."""
    return f"kv2/detailed-metadata/{folder}*"


async def test_one_list_revalidates_all_secrets_of_a_folder(
    vault: VaultServer, signer: TokenSigner
) -> None:
    """One request per interval instead of twelve, and the metric counts them."""
    async with running_pod(vault, signer, "same/", listing("same/")) as pod:
        assert [(1, 0)] * 4 == [await pod.refresh() for _ in range(4)]
        assert [f"first {name}".encode() for name in NAMES] == await pod.mount()
        assert 48 == pod.fetches("revalidated") + pod.fetches("hit") - len(NAMES)
        assert 12 == pod.fetches("miss")


async def test_all_kinds_of_changes_are_detected_at_the_next_refresh(
    vault: VaultServer, signer: TokenSigner
) -> None:
    """A new value, custom metadata, and a secret that was recreated as version 1."""
    folder = "changed/deep/"
    whole = [entry(name, f"kv2/data/{folder}{name}") for name in NAMES]
    async with running_pod(vault, signer, folder, listing(folder), objects=whole) as pod:
        assert (1, 0) == await pod.refresh()
        await put_kv(vault, f"kv2/data/{folder}s0", password="second")
        await vault.write(f"kv2/metadata/{folder}s1", {"custom_metadata": {"owner": "shop"}})
        await vault.delete(f"kv2/metadata/{folder}s2")
        await put_kv(vault, f"kv2/data/{folder}s2", password="third")
        assert (1, 3) == await pod.refresh()
        files = await pod.mount()
        assert b'"second"' in files[0]
        assert b'"shop"' in files[1]
        assert b'"third"' in files[2]
        assert (1, 0) == await pod.refresh()


@pytest.mark.parametrize("how", ["delete", "destroy", "forget"])
async def test_deleted_secret_is_reported(
    vault: VaultServer, signer: TokenSigner, how: str
) -> None:
    """Deleted, destroyed, or removed with all versions."""
    folder = f"deleted-{how}/"
    async with running_pod(vault, signer, folder, listing(folder)) as pod:
        match how:
            case "delete":
                await vault.delete(f"kv2/data/{folder}s0")
            case "destroy":
                await vault.write(f"kv2/destroy/{folder}s0", {"versions": [1]})
            case _:
                await vault.delete(f"kv2/metadata/{folder}s0")
        with pytest.raises(ObjectNotFoundError):
            await pod.refresh()


async def test_secret_with_deletion_time_is_read_each_time(
    vault: VaultServer, signer: TokenSigner
) -> None:
    """Its metadata are equal before and after its deletion."""
    async with running_pod(vault, signer, "expiring/", listing("expiring/")) as pod:
        await vault.write("kv2/metadata/expiring/s0", {"delete_version_after": "1h"})
        await put_kv(vault, "kv2/data/expiring/s0", password="for an hour")
        assert [(1, 1), (1, 1)] == [await pod.refresh() for _ in range(2)]


async def test_secrets_are_read_without_permission_to_list(
    vault: VaultServer, signer: TokenSigner
) -> None:
    """The denied list is not an error. It is tried once per hour, and once with a new token."""
    async with running_pod(vault, signer, "denied/") as pod:
        assert [(2, 12), (0, 12)] == [await pod.refresh() for _ in range(2)]
        pod.ahead += 3600
        assert [(0, 12), (2, 12)] == [await pod.refresh() for _ in range(2)]


async def test_expired_token_is_not_a_denied_list(vault: VaultServer, signer: TokenSigner) -> None:
    """The server responds with 403 to both. After one new login the list is used again."""
    async with running_pod(vault, signer, "expired/", listing("expired/")) as pod:
        assert (1, 0) == await pod.refresh()
        await vault.write("sys/leases/revoke-prefix/auth/jwt/login", {})
        _, reads = await pod.refresh()
        assert 0 == reads
        assert (1, 0) == await pod.refresh()


async def test_refresh_succeeds_if_the_list_is_too_large(
    vault: VaultServer, signer: TokenSigner
) -> None:
    """The secrets are read, and the list is not requested for five minutes."""
    async with running_pod(vault, signer, "large/", listing("large/")) as pod:
        notes = {f"note-{number}": "x" * 512 for number in range(64)}
        for number in range(40):
            name = f"kv2/metadata/large/other-{number}"
            await vault.write(name, {"custom_metadata": notes})
        assert [(1, 12), (0, 12), (0, 12), (1, 12)] == [await pod.refresh() for _ in range(4)]


async def test_revoked_permission_takes_effect_within_an_hour(
    vault: VaultServer, signer: TokenSigner
) -> None:
    """Although listing is still permitted."""
    async with running_pod(vault, signer, "revoked/", listing("revoked/")) as pod:
        assert (1, 0) == await pod.refresh()
        rule = f'path "{listing("revoked/")}" {{ capabilities = ["list"] }}'
        await vault.write("sys/policies/acl/revalidation-revoked-", {"policy": rule})
        assert (1, 0) == await pod.refresh()
        for _ in range(27):
            assert (1, 0) == await pod.refresh()
        with pytest.raises(AccessDeniedError):
            await pod.refresh()


async def test_large_folder_is_not_listed_again(vault: VaultServer, signer: TokenSigner) -> None:
    """Two secrets of a folder with more than ten entries are read instead."""
    two = [entry(name, f"kv2/data/many/{name}", "password") for name in NAMES[:2]]
    async with running_pod(vault, signer, "many/", listing("many/"), objects=two) as pod:
        assert [(1, 2), (0, 2)] == [await pod.refresh() for _ in range(2)]


async def test_single_secret_and_old_version_are_read(
    vault: VaultServer, signer: TokenSigner
) -> None:
    """A list is not cheaper than one read, and contains current versions only."""
    entries = [
        entry("one", "kv2/data/single/s0", "password"),
        entry("old", "kv2/data/single/s1?version=1", "password"),
    ]
    async with running_pod(vault, signer, "single/", listing("single/"), objects=entries) as pod:
        assert (0, 2) == await pod.refresh()


async def test_list_revalidation_can_be_disabled(vault: VaultServer, signer: TokenSigner) -> None:
    """With --list-revalidation=false."""
    async with running_pod(vault, signer, "off/", listing("off/"), list_revalidation=False) as pod:
        assert (0, 12) == await pod.refresh()
