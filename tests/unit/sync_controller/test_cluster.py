"""keyferry.sync_controller.cluster: writes for a leader, and for a cluster with another CRD."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from keyferry.kubernetes.api.client import KubeApi
from keyferry.kubernetes.api.syncs.cache import SyncCache
from keyferry.kubernetes.api.write_check import WriteCheck
from keyferry.kubernetes.syncs.objects import SecretSync, SyncStatus
from keyferry.records import replace
from keyferry.sync_controller import cluster as module
from keyferry.sync_controller.cluster import NotLeadingError, SyncCluster, WriteGuard
from keyferry.sync_controller.settings import TokenSettings
from tests.fakes.clock import START
from tests.fakes.log import captured_log
from tests.fakes.secret_syncs import secret_sync

STATUS = SyncStatus(
    sync_hash="kf1:a", observed_class="uid/1", last_success=START, last_attempt=START
)


class FakeLeadership:
    """Leads, or does not."""

    def __init__(self) -> None:
        self.is_leader = True
        self.on_change: list[Any] = []

    async def run(self, work: Any) -> None:
        await work()


class FakeCache:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.written: list[SecretSync] = []

    def upsert_status(self, written: SecretSync) -> None:
        self.written.append(written)


class Writes:
    """Replaces `write_status`: an API server whose CRD may drop fields."""

    def __init__(self, *, drops: bool) -> None:
        self.statuses: list[SyncStatus] = []
        self._drops = drops

    async def __call__(
        self, _: KubeApi, sync: SecretSync, status: SyncStatus, check_write: WriteCheck
    ) -> SecretSync:
        check_write()
        self.statuses.append(status)
        kept = replace(status, observed_class="", observed_secret="") if self._drops else status
        return replace(sync, status=kept)


def cluster(leadership: FakeLeadership, cache: FakeCache) -> SyncCluster:
    return SyncCluster(
        cast("KubeApi", None),
        cache=cast("SyncCache", cache),
        guard=WriteGuard(leadership),
        tokens=TokenSettings(),
        node="",
    )


@pytest.mark.parametrize(("drops", "writes"), [(False, 2), (True, 1)])
async def test_a_status_whose_fields_are_dropped_is_written_once(
    monkeypatch: pytest.MonkeyPatch, drops: bool, writes: int
) -> None:
    """The reporter sees a difference at each refresh; a change is still written."""
    write = Writes(drops=drops)
    monkeypatch.setattr(module, "write_status", write)
    cache = FakeCache()
    tested = cluster(FakeLeadership(), cache)
    later = replace(STATUS, last_attempt=START + timedelta(hours=1))
    with captured_log() as log:
        for status in (STATUS, later):
            await tested.write_status(secret_sync(), status)
    assert len(write.statuses) == writes == len(cache.written)
    assert ("the CRD drops fields of SecretSyncs" in log.getvalue()) is drops
    await tested.write_status(secret_sync(), replace(later, sync_hash="kf1:b"))
    assert len(write.statuses) == writes + 1


async def test_nothing_is_written_without_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replica may write already."""
    write = Writes(drops=False)
    monkeypatch.setattr(module, "write_status", write)
    leadership = FakeLeadership()
    tested = cluster(leadership, FakeCache())
    leadership.is_leader = False
    with pytest.raises(NotLeadingError):
        await tested.write_status(secret_sync(), STATUS)
    assert write.statuses == []
