"""keyferry.driver.status.refresh_condition: what is written to pod statuses, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.driver.request import PublishRequest
from keyferry.driver.status.refresh_condition import RefreshConditionWriter
from keyferry.driver.volumes.volume_events import (
    VolumeRefreshed,
    VolumeRefreshFailed,
    VolumeRemoved,
)
from keyferry.driver.volumes.volume_table import Volume
from keyferry.errors import AccessDeniedError, KeyferryError, ObjectNotFoundError
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef, SecretProviderClass
from keyferry.kubernetes.pod_status import pod_status
from tests.fakes.clock import START, ManualClock

POD = PodRef("shop", "web-0", "uid")
STATUS = pod_status(POD, "web", "/t", "node-1", ())
SPC = SecretProviderClass("shop", "web", "azure", {"a": "b"})
HOUR = 3600


class Node:
    """A condition writer over a folder store.

    Attributes:
        clock: the clock of the writer.
        store: where it writes.
        writer: the writer.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "secretproviderclasspodstatuses/shop/web-0-shop-web.yaml"
        self.store = ManifestsStore(folder, folder, clock=ManualClock())
        self.clock = ManualClock()
        self.writer = RefreshConditionWriter(self.store, clock=self.clock)

    async def succeed(self) -> dict[str, Any]:
        """Let a refresh succeed and return the condition."""
        volume = Volume("/t", POD, "web", START)
        await self.writer.on_volume_event(VolumeRefreshed(volume, SPC, STATUS, ()))
        return await self._condition()

    async def fail(self, error: KeyferryError) -> dict[str, Any]:
        """Let a refresh fail and return the condition."""
        request = PublishRequest("/t", readonly=True, pod=POD, class_name="web", context={})
        await self.writer.on_volume_event(VolumeRefreshFailed(request, error))
        return await self._condition()

    async def remove(self) -> None:
        """Remove the volume."""
        await self.writer.on_volume_event(VolumeRemoved("/t", None, unpublished=True))

    async def _condition(self) -> dict[str, Any]:
        while len(self.writer):
            await self.clock.run_ready_tasks()
        status = yaml.safe_load(self._path.read_text())["status"]
        return {"last": status.get("lastRefreshTime"), **status["conditions"][0]}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.store.apply_pod_status(STATUS)
    async with made.writer.running():
        yield made


async def test_successful_refresh_is_written(node: Node) -> None:
    """With its time."""
    condition = await node.succeed()
    assert ("2030-01-01T12:00:00Z", "True") == (condition["last"], condition["status"])


async def test_repeated_success_is_written_hourly(node: Node) -> None:
    """A node with many pods writes little, whatever the rotation interval is."""
    await node.succeed()
    node.clock.now = HOUR - 1
    assert "2030-01-01T12:00:00Z" == (await node.succeed())["last"]
    node.clock.now = HOUR
    condition = await node.succeed()
    assert "2030-01-01T13:00:00Z" == condition["last"]
    assert "2030-01-01T12:00:00Z" == condition["lastTransitionTime"]


async def test_failure_is_written_at_once(node: Node) -> None:
    """The last refresh time stays. Another message of the same error is not written again."""
    await node.succeed()
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


async def test_removed_volume_is_forgotten(node: Node) -> None:
    """A later pod with the same name starts a new condition."""
    await node.succeed()
    await node.remove()
    node.clock.now = 60
    condition = await node.succeed()
    assert "2030-01-01T12:01:00Z" == condition["last"] == condition["lastTransitionTime"]
