"""Refreshes that one list request revalidates, against the development vault."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyferry.errors import ObjectNotFoundError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.api import MountCall, MountResult
from keyferry.providers.azure.provider import AzureProvider
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.fetcher import Fetcher
from keyferry.resilience.settings import ResilienceSettings
from keyferry_devvault.model import FaultAction
from keyferry_devvault.storage.data import DevVaultData
from tests.fakes.devvault import (
    DEFAULT_TENANT,
    CloseMidResponse,
    DevVault,
    RespondStatus,
    running_devvault,
)

MI = "11111111-0000-4000-8000-000000000001"
INTERVAL = 120.0
NAMES = [f"object-{number}" for number in range(20)]


@dataclass
class Node:
    """A node whose pods use the twenty secrets of a vault, and a clock that tests move.

    Attributes:
        vault: of the secrets.
        folder: its data.
        ahead: seconds that the clocks of the node are ahead.
        elsewhere: the names that are read from the vault `fabrikam`, too.
    """

    vault: DevVault
    folder: Path
    ahead: float = 3600.0
    elsewhere: tuple[str, ...] = ()
    provider: AzureProvider | None = None
    fetcher: Fetcher | None = None

    def wall(self) -> float:
        return time.time() + self.ahead

    async def mount(
        self, purpose: Purpose = Purpose.REFRESH, pod: str = "a", names: list[str] | None = None
    ) -> MountResult:
        """The content of the volume of a pod."""
        entries = [{"objectName": name, "objectType": "secret"} for name in names or NAMES]
        entries += [
            {
                "objectName": name,
                "objectType": "secret",
                "objectAlias": f"fabrikam/{name}",
                "keyvaultName": "fabrikam",
            }
            for name in self.elsewhere
        ]
        attributes = {
            POD_NAME: pod,
            POD_NAMESPACE: "shop",
            "useVMManagedIdentity": "true",
            "userAssignedIdentityID": MI,
            "keyvaultName": "contoso",
            "tenantID": DEFAULT_TENANT,
            "objects": json.dumps({"array": [json.dumps(entry) for entry in entries]}),
        }
        assert self.provider is not None
        call = MountCall(attributes, target_path=f"/{pod}", purpose=purpose)
        return await self.provider.mount(call)

    async def refresh(self) -> tuple[int, int]:
        """One interval later: calls for lists and for secrets that the refresh of a pod makes."""
        self.ahead += INTERVAL
        self.vault.clear_requests()
        await self.mount()
        return self.calls

    @property
    def calls(self) -> tuple[int, int]:
        """How often a list was asked for, and how often a secret."""
        paths = [record.path for record in self.vault.requests if record.path.startswith("/sec")]
        lists = sum(path == "/secrets" for path in paths)
        return lists, len(paths) - lists


@dataclass
class NodeClock:
    """Implements `Clock`; it is moved by hand: short pauses are over at once, long ones never."""

    node: Node

    def monotonic(self) -> float:
        return self.node.ahead

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.node.wall(), UTC)

    async def sleep(self, seconds: float) -> None:
        if seconds < 1:
            return
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def node_of(
    folder: Path, *permissions: str, others: int = 0, revalidates: bool = True
) -> AsyncIterator[Node]:
    """A node whose pod is mounted; `others` is the number of unrelated secrets in the vault."""
    async with running_devvault(folder) as vault:
        node = Node(vault, folder)
        for name in (*NAMES, *(f"other-{number}" for number in range(others))):
            vault.set_secret("contoso", name, name)
        vault.add_managed_identity(MI)
        vault.grant("contoso", MI, *permissions)
        limits = ResilienceSettings(
            refresh_interval=INTERVAL, tracks_volumes=True, list_revalidation=revalidates
        )
        fetcher = node.fetcher = Fetcher(limits, NodeClock(node))
        https = HttpsClient(vault.emulator.https)
        node.provider = AzureProvider(
            https, fetcher, clock=NodeClock(node), emulator=vault.emulator
        )
        try:
            await node.mount(Purpose.FIRST)
            yield node
        finally:
            await node.provider.close()
            await fetcher.close()


async def test_one_list_request_revalidates_all_unchanged_objects(tmp_path: Path) -> None:
    """One request per interval instead of twenty, in every interval."""
    async with node_of(tmp_path, "get", "list") as node:
        assert [(1, 0)] * 5 == [await node.refresh() for _ in range(5)]
        files = (await node.mount()).files
        assert [name.encode() for name in NAMES] == [file.contents for file in files]


async def test_only_changed_objects_are_fetched(tmp_path: Path) -> None:
    """A changed object is fetched until no later update can have the same time."""
    async with node_of(tmp_path, "get", "list") as node:
        await node.refresh()
        clock = lambda: int(node.wall())  # noqa: E731 - the vault's clock agrees with the node's
        with DevVaultData(tmp_path / "devvault", wall_time=clock) as data:
            data.secrets.set("contoso", NAMES[3], "changed")
        assert (1, 1) == await node.refresh()
        assert b"changed" == (await node.mount()).files[3].contents
        assert [(1, 1), (1, 1)] == [await node.refresh() for _ in range(2)]
        assert (1, 0) == await node.refresh()


async def test_one_list_request_serves_all_pods_of_an_identity(tmp_path: Path) -> None:
    """Concurrent refreshes, at any time of the interval."""
    async with node_of(tmp_path, "get", "list") as node:
        await node.mount(Purpose.FIRST, "b")
        await node.refresh()
        node.vault.clear_requests()
        for _ in range(12):
            node.ahead += INTERVAL / 4
            await asyncio.gather(node.mount(pod="a"), node.mount(pod="b"))
        assert (3, 0) == node.calls


async def test_deleted_secret_is_an_error(tmp_path: Path) -> None:
    """It is missing in the list, so it is requested."""
    async with node_of(tmp_path, "get", "list") as node:
        await node.refresh()
        node.vault.delete("contoso", NAMES[0])
        with pytest.raises(ObjectNotFoundError):
            await node.refresh()
        assert (1, 1) == node.calls


async def test_identity_without_list_permission_fetches(tmp_path: Path) -> None:
    """The refusal is not an error, and the list is requested at most once an hour."""
    async with node_of(tmp_path, "get") as node:
        assert [(1, 20), (0, 20)] == [await node.refresh() for _ in range(2)]
        node.ahead += 3600
        assert [(0, 20), (1, 20)] == [await node.refresh() for _ in range(2)]


async def test_list_longer_than_the_saved_requests_is_not_read(tmp_path: Path) -> None:
    """Discovered once, at the cost of as many pages as objects less one."""
    async with node_of(tmp_path, "get", "list", others=480) as node:
        assert [(19, 20), (0, 20)] == [await node.refresh() for _ in range(2)]


async def test_list_of_several_pages_is_read_if_it_saves_requests(tmp_path: Path) -> None:
    """Three requests instead of twenty."""
    async with node_of(tmp_path, "get", "list", others=40) as node:
        assert (3, 0) == await node.refresh()


@pytest.mark.parametrize(
    ("fault", "tries"), [(RespondStatus(500), 2), (CloseMidResponse(), 2), (RespondStatus(400), 1)]
)
async def test_failed_list_does_not_fail_the_refresh(
    tmp_path: Path, fault: FaultAction, tries: int
) -> None:
    """A transient failure is retried once; then objects are fetched for five minutes."""
    async with node_of(tmp_path, "get", "list") as node:
        node.vault.add_fault("contoso.vault.azure.net/secrets", fault, times=tries)
        assert (tries, 20) == await node.refresh()
        assert [(0, 20), (0, 20), (1, 0)] == [await node.refresh() for _ in range(3)]


async def test_content_age_counts_only_current_objects(tmp_path: Path) -> None:
    """An object that was removed from the SecretProviderClass does not count."""
    async with node_of(tmp_path, "get") as node:
        assert node.fetcher is not None
        node.ahead += INTERVAL
        await node.mount(names=NAMES[:1])
        assert 0 <= (node.fetcher.oldest_content_age or 0.0) < 60
        node.ahead += INTERVAL
        assert INTERVAL <= (node.fetcher.oldest_content_age or 0.0)


async def test_revalidation_can_be_disabled(tmp_path: Path) -> None:
    """By --list-revalidation=false."""
    async with node_of(tmp_path, "get", "list", revalidates=False) as node:
        assert (0, 20) == await node.refresh()


async def test_mount_from_the_cache_reports_the_age_of_its_content(tmp_path: Path) -> None:
    """It must not replace newer content that another node has written."""
    async with node_of(tmp_path, "get", "list") as node:
        node.ahead += 10
        held = (await node.mount(Purpose.FIRST, "b")).oldest_content_age
        assert 10 <= held < 60
        node.ahead += INTERVAL
        fresh = await node.mount(Purpose.FIRST, "c")
        assert 0.0 == fresh.oldest_content_age


async def test_each_of_several_vaults_is_revalidated_by_a_list_of_its_own(tmp_path: Path) -> None:
    """A changed secret is read again, and that of the same name in the other vault is not."""
    async with node_of(tmp_path, "get", "list") as node:
        for name in NAMES:
            node.vault.set_secret("fabrikam", name, f"other-{name}")
        node.vault.grant("fabrikam", MI, "get", "list")
        node.elsewhere = tuple(NAMES)
        await node.mount()
        assert [(2, 0)] * 3 == [await node.refresh() for _ in range(3)]
        clock = lambda: int(node.wall())  # noqa: E731 - the vault's clock agrees with the node's
        with DevVaultData(tmp_path / "devvault", wall_time=clock) as data:
            data.secrets.set("fabrikam", NAMES[0], "changed")
        assert (2, 1) == await node.refresh()
        files = {file.path: file.contents for file in (await node.mount()).files}
        assert (b"changed", NAMES[0].encode()) == (files[f"fabrikam/{NAMES[0]}"], files[NAMES[0]])
