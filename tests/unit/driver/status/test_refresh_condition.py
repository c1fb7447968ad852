"""keyferry.driver.status: the `Refreshed` condition, and how often it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.driver.request import PublishRequest
from keyferry.driver.status.pod_status_writer import PodStatusWriter
from keyferry.driver.volumes.volume_events import (
    VolumeEvent,
    VolumeEvents,
    VolumePublished,
    VolumeRefreshed,
    VolumeRefreshFailed,
    VolumeRemoved,
)
from keyferry.driver.volumes.volume_table import Volume, VolumeTable
from keyferry.errors import (
    AccessDeniedError,
    KeyferryError,
    ObjectNotFoundError,
    StoreUnavailableError,
)
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import OwnerReference, PodRef, PodStatus, SecretProviderClass
from keyferry.kubernetes.pod_status import REWRITE_INTERVAL, pod_status, rewrite_interval
from keyferry.records import replace
from keyferry.telemetry.metrics import Metrics
from tests.fakes.clock import START, ManualClock

POD = PodRef("shop", "web-0", "uid")
STATUS = pod_status(POD, "web", "/t", "node-1", ())
SPC = SecretProviderClass("shop", "web", "azure", {"a": "b"})
REQUEST = PublishRequest("/t", readonly=True, pod=POD, class_name="web", context={})
EACH = rewrite_interval(STATUS.namespace, STATUS.name).total_seconds()


class CountingStore(ManifestsStore):
    """A folder store that counts calls, and can be unavailable."""

    calls = 0
    unavailable = False

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Count the call."""
        self.calls += 1
        if self.unavailable:
            raise StoreUnavailableError("unavailable", "Wait.")
        return await super().apply_pod_status(status)


class Node:
    """A pod status writer over a folder store.

    Attributes:
        clock: the clock of the writer.
        store: where it writes.
        writer: the writer.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "secretproviderclasspodstatuses/shop/web-0-shop-web.yaml"
        self.store = CountingStore(folder, folder, clock=ManualClock())
        self.clock = ManualClock()
        self.writer = PodStatusWriter(
            self.store,
            volumes=VolumeTable(),
            events=VolumeEvents(),
            metrics=Metrics().volumes,
            clock=self.clock,
        )

    async def mount(self) -> dict[str, Any]:
        """Mount the volume and return the condition."""
        return await self._handle(VolumePublished(self._volume(), SPC, STATUS, True, ()))

    async def succeed(self) -> dict[str, Any]:
        """Let a refresh succeed and return the condition."""
        return await self._handle(VolumeRefreshed(self._volume(), SPC, STATUS, ()))

    async def fail(self, error: KeyferryError) -> dict[str, Any]:
        """Let a refresh fail and return the condition."""
        return await self._handle(VolumeRefreshFailed(REQUEST, error))

    def _volume(self) -> Volume:
        return Volume("/t", POD, "web", self.clock.wall())

    async def _handle(self, event: VolumeEvent) -> dict[str, Any]:
        await self.writer.on_volume_event(event)
        await self.settle()
        return self.condition()

    async def settle(self) -> None:
        """Wait until everything that can be written is written."""
        while len(self.writer) and not self.store.unavailable:
            await self.clock.run_ready_tasks()

    def condition(self) -> dict[str, Any]:
        """Return what is written; {} for nothing."""
        status = yaml.safe_load(self._path.read_text())["status"] if self._path.exists() else {}
        (condition,) = status.get("conditions", [{}])
        return {"last": status.get("lastRefreshTime"), **condition}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    async with made.writer.running():
        yield made


async def test_mount_writes_status_and_condition_at_once(node: Node) -> None:
    """One call of the store, with the time of the fetch."""
    condition = await node.mount()
    assert ("2030-01-01T12:00:00Z", "True", "Refreshed") == (
        condition["last"],
        condition["status"],
        condition["reason"],
    )
    assert 1 == node.store.calls


async def test_repeated_success_is_written_about_once_a_day(node: Node) -> None:
    """A node with many pods writes little, whatever the rotation interval is."""
    await node.mount()
    node.clock.now = EACH - 1
    assert "2030-01-01T12:00:00Z" == (await node.succeed())["last"]
    node.clock.now = EACH
    condition = await node.succeed()
    assert f"{START + timedelta(seconds=int(EACH)):%Y-%m-%dT%H:%M:%SZ}" == condition["last"]
    assert "2030-01-01T12:00:00Z" == condition["lastTransitionTime"]


def test_pod_statuses_are_rewritten_at_different_times() -> None:
    """Within the last quarter of a day, so that pods that start together do not write together."""
    intervals = {rewrite_interval("shop", f"web-{number}-shop-web") for number in range(100)}
    assert REWRITE_INTERVAL * 0.75 <= min(intervals) < REWRITE_INTERVAL * 0.8
    assert REWRITE_INTERVAL * 0.95 < max(intervals) <= REWRITE_INTERVAL
    assert len(intervals) > 90


async def test_failure_is_written_at_once(node: Node) -> None:
    """The last refresh time stays. Another message of the same error is not written again."""
    await node.mount()
    node.clock.now = 60
    condition = await node.fail(AccessDeniedError("request 1"))
    assert {
        "last": "2030-01-01T12:00:00Z",
        "type": "Refreshed",
        "status": "False",
        "reason": "AccessDenied",
        "message": "stage vault: request 1",
        "lastTransitionTime": "2030-01-01T12:01:00Z",
    } == condition
    node.clock.now = 120
    assert condition == await node.fail(AccessDeniedError("request 2"))
    condition = await node.fail(ObjectNotFoundError("not found"))
    assert "stage object: not found" == condition["message"]
    assert "2030-01-01T12:01:00Z" == condition["lastTransitionTime"]
    condition = await node.succeed()
    assert ("True", "2030-01-01T12:02:00Z") == (
        condition["status"],
        condition["lastTransitionTime"],
    )


async def test_failure_is_not_lost_with_a_pod_status_that_is_not_written_yet(node: Node) -> None:
    """The API server was unavailable when the pod started."""
    node.store.unavailable = True
    await node.mount()
    await node.fail(AccessDeniedError("no"))
    node.store.unavailable = False
    await node.clock.advance(60)
    await node.settle()
    condition = node.condition()
    assert ("2030-01-01T12:00:00Z", "False") == (condition["last"], condition["status"])


async def test_volume_of_an_earlier_process_keeps_its_condition(node: Node) -> None:
    """It was not fetched again."""
    await node.mount()
    await node.fail(AccessDeniedError("no"))
    known = await node.store.find_pod_status("shop", STATUS.name)
    assert known is not None
    assert known.refresh is not None
    event = VolumePublished(Volume("/t", POD, "web", START), SPC, known, False, None)
    await node.writer.on_volume_event(event)
    await node.settle()
    assert "False" == node.condition()["status"]


async def test_condition_of_a_removed_volume_is_not_written(node: Node) -> None:
    """The pod status belongs to the next pod of that name."""
    await node.store.apply_pod_status(replace(STATUS, target_path="/next"))
    await node.writer.on_volume_event(VolumeRefreshFailed(REQUEST, AccessDeniedError("no")))
    await node.writer.on_volume_event(VolumeRemoved("/t", None, unpublished=True))
    await node.settle()
    assert {"last": None} == node.condition()
