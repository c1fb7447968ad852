"""keyferry.kubernetes.api.syncs.status: the status of a SecretSync."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.kubernetes.api.client import MAX_CONCURRENT_WRITES, KubeApi
from keyferry.kubernetes.api.syncs.status import STATUS_ATTEMPTS, write_status
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.conditions import next_conditions
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP, SyncGroup
from keyferry.kubernetes.syncs.objects import SecretSync, SyncStatus
from keyferry.kubernetes.syncs.outcomes import SyncChange, Synced
from tests.fakes.kube_api import KubeApiServer
from tests.fakes.kube_objects import GKE_SYNCS, StatusError
from tests.fakes.syncs import sync_manifest

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def created(
    server: KubeApiServer, plural: str = "secretsyncs", group: SyncGroup = UPSTREAM_GROUP
) -> SecretSync:
    server.put(plural, sync_manifest(api_version=str(group)))
    return parsed(server, plural, group)


def parsed(
    server: KubeApiServer, plural: str = "secretsyncs", group: SyncGroup = UPSTREAM_GROUP
) -> SecretSync:
    return parse_sync(server.get(plural, "shop", "web"), group)


def synced(sync: SecretSync) -> SyncStatus:
    conditions = next_conditions(sync, Synced(SyncChange.CREATED), now=NOON)
    return SyncStatus(
        conditions,
        observed_generation=sync.generation,
        sync_hash="kf1:x",
        last_success=NOON,
        last_attempt=NOON,
        lease_holder="keyferry-sync-0",
        observed_class="uid/4",
    )


@pytest.mark.parametrize(
    ("plural", "group"), [("secretsyncs", UPSTREAM_GROUP), (GKE_SYNCS, GKE_GROUP)]
)
async def test_status_is_written_to_the_subresource(
    server: KubeApiServer, api: KubeApi, plural: str, group: SyncGroup
) -> None:
    """So the generation stays, and nothing but the status changes."""
    sync = created(server, plural, group)
    assert [("Ready", "Pending")] == [(c.type, c.reason) for c in sync.status.conditions]
    written = await write_status(api, sync, synced(sync))
    after = parsed(server, plural, group)
    assert written == after
    assert written.status == after.status
    assert written.resource_version == after.resource_version
    assert after.status == synced(sync)
    assert after == sync
    assert server.requests == [f"patch {plural}/status"]


async def test_time_of_the_last_success_outlives_a_failure(
    server: KubeApiServer, api: KubeApi
) -> None:
    """An earlier controller may have written it."""
    sync = created(server)
    await write_status(api, sync, synced(sync))
    await write_status(api, parsed(server), SyncStatus(sync.status.conditions))
    assert parsed(server).status.last_success == NOON
    assert parsed(server).status.observed_class == ""


async def test_deleted_secret_sync_has_no_status(server: KubeApiServer, api: KubeApi) -> None:
    """That is no error."""
    sync = created(server)
    server.remove("secretsyncs", "shop", "web")
    assert await write_status(api, sync, synced(sync)) is None


async def test_secret_sync_that_was_created_again_keeps_its_own_status(
    server: KubeApiServer, api: KubeApi
) -> None:
    """It has the same name, and the same generation."""
    sync = created(server)
    server.remove("secretsyncs", "shop", "web")
    again = created(server)
    assert await write_status(api, sync, synced(sync)) is None
    assert parsed(server).status == again.status


async def test_conditions_that_another_writer_has_added_meanwhile_are_kept(
    server: KubeApiServer, api: KubeApi
) -> None:
    """The list is written as a whole, so it is read again after a conflict."""
    sync = created(server)
    plural = "secretsyncs"
    manifest = server.get(plural, "shop", "web")
    assert manifest is not None
    (ready,) = manifest["status"]["conditions"]
    status = {"conditions": [ready, {**ready, "type": "Approved"}]}
    server.put(plural, {**manifest, "status": status})
    server.requests.clear()
    written = await write_status(api, sync, synced(sync))
    assert written is not None
    assert [c.type for c in written.status.conditions][-1] == "Approved"
    assert written.status.sync_hash == "kf1:x"
    write = f"patch {plural}/status"
    assert server.requests == [write, f"get {plural}", write]


async def test_status_in_conflict_is_not_written_by_a_former_leader(
    server: KubeApiServer, api: KubeApi
) -> None:
    """A paused process resumes: what it was about to send is in conflict, and not sent again."""
    sync = created(server)
    await write_status(api, sync, synced(sync))
    expected = parsed(server)
    server.requests.clear()
    permissions = iter([True, False])

    def check_write() -> None:
        if not next(permissions):
            raise StoreUnavailableError("another replica leads")

    with pytest.raises(StoreUnavailableError, match="another replica"):
        await write_status(api, sync, SyncStatus(sync.status.conditions), check_write)
    assert parsed(server) == expected
    assert server.requests == ["patch secretsyncs/status", "get secretsyncs"]


async def test_write_that_waited_for_others_is_checked_when_it_is_sent(
    server: KubeApiServer, api: KubeApi
) -> None:
    """The process may have been paused meanwhile, and lead no more."""
    sync = created(server)
    server.writes_allowed.clear()
    leads = True

    def check_write() -> None:
        if not leads:
            raise StoreUnavailableError("another replica leads")

    writes = [
        asyncio.create_task(write_status(api, sync, synced(sync), check_write))
        for _ in range(MAX_CONCURRENT_WRITES + 1)
    ]
    async with asyncio.timeout(100):
        while server.peak_concurrent_writes < MAX_CONCURRENT_WRITES:  # noqa: ASYNC110 - the server sends no notification
            await asyncio.sleep(0.01)
    leads = False
    server.writes_allowed.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [SecretSync] == [type(each) for each in results if not isinstance(each, StoreError)]
    assert MAX_CONCURRENT_WRITES == server.requests.count("patch secretsyncs/status")


async def test_status_that_keeps_changing_is_an_error(server: KubeApiServer, api: KubeApi) -> None:
    """After a few attempts; the controller tries again later."""
    sync = created(server)
    server.refusals["patch secretsyncs/status"] = StatusError(409, "Conflict")
    with pytest.raises(StoreError, match="Conflict"):
        await write_status(api, sync, synced(sync))
    assert server.requests.count("patch secretsyncs/status") == STATUS_ATTEMPTS


@pytest.mark.parametrize("change", [{"forbidden": {"patch secretsyncs/status"}}])
async def test_missing_permission_is_an_error(
    server: KubeApiServer, api: KubeApi, change: dict[str, Any]
) -> None:
    """With the name of the subresource."""
    vars(server).update(change)
    sync = created(server)
    with pytest.raises(StoreError, match=r"patch secretsyncs.secret-sync.x-k8s.io/status shop/web"):
        await write_status(api, sync, synced(sync))
