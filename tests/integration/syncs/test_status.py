"""keyferry.kubernetes.api.syncs.status: the status of a SecretSync."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.errors import StoreError
from keyferry.kubernetes.api.client import KubeApi
from keyferry.kubernetes.api.syncs.status import write_status
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.conditions import next_conditions
from keyferry.kubernetes.syncs.objects import (
    GKE_GROUP,
    UPSTREAM_GROUP,
    SecretSync,
    SyncGroup,
    SyncStatus,
)
from keyferry.kubernetes.syncs.outcomes import SyncChange, Synced
from tests.fakes.kube_api import KubeApiServer
from tests.fakes.kube_objects import GKE_SYNCS
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
        next_sync=NOON,
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
    assert await write_status(api, sync, synced(sync))
    after = parsed(server, plural, group)
    assert after.status == synced(sync)
    assert after == sync
    assert server.requests == [f"patch {plural}/status"]


async def test_time_of_the_last_success_outlives_a_failure(
    server: KubeApiServer, api: KubeApi
) -> None:
    """An earlier controller may have written it."""
    sync = created(server)
    await write_status(api, sync, synced(sync))
    await write_status(api, sync, SyncStatus(sync.status.conditions))
    assert parsed(server).status.last_success == NOON
    assert parsed(server).status.observed_class == ""


async def test_deleted_secret_sync_has_no_status(server: KubeApiServer, api: KubeApi) -> None:
    """That is no error."""
    sync = created(server)
    server.remove("secretsyncs", "shop", "web")
    assert not await write_status(api, sync, synced(sync))


async def test_secret_sync_that_was_created_again_keeps_its_own_status(
    server: KubeApiServer, api: KubeApi
) -> None:
    """It has the same name, and the same generation."""
    sync = created(server)
    server.remove("secretsyncs", "shop", "web")
    again = created(server)
    assert not await write_status(api, sync, synced(sync))
    assert parsed(server).status == again.status


@pytest.mark.parametrize("change", [{"forbidden": {"patch secretsyncs/status"}}])
async def test_missing_permission_is_an_error(
    server: KubeApiServer, api: KubeApi, change: dict[str, Any]
) -> None:
    """With the name of the subresource."""
    vars(server).update(change)
    sync = created(server)
    with pytest.raises(StoreError, match=r"patch secretsyncs.secret-sync.x-k8s.io/status shop/web"):
        await write_status(api, sync, synced(sync))
