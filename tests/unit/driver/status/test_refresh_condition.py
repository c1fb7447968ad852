"""How volumes fare, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.driver.status.refresh_condition import RefreshConditionWriter
from keyferry.errors import AccessDeniedError, ObjectNotFoundError
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef
from keyferry.kubernetes.pod_status import pod_status
from tests.fakes.clock import ManualClock

STATUS = pod_status(PodRef("shop", "web-0", "uid"), "web", "/t", "node-1", ())
HOUR = 3600


class Watched:
    """A keeper over a folder.

    Attributes:
        clock: by which it tells the time.
        writer: it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "secretproviderclasspodstatuses/shop/web-0-shop-web.yaml"
        self.store = ManifestsStore(folder, folder, clock=lambda: datetime(2030, 1, 1, tzinfo=UTC))
        self.clock = ManualClock()
        self.writer = RefreshConditionWriter(self.store, clock=self.clock)

    def condition(self) -> dict[str, Any]:
        """What the pod status says, {} when it says nothing."""
        status = yaml.safe_load(self._path.read_text())["status"]
        condition = status.get("conditions", [{}])[0]
        return {"last": status.get("lastRefreshTime"), **condition} if condition else {}

    async def written_condition(self) -> dict[str, Any]:
        """The same, once all is written."""
        while len(self.writer):
            await self.clock.run_ready_tasks()
        return self.condition()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path)
    await made.store.apply_pod_status(STATUS)
    async with made.writer.running():
        yield made


async def test_a_refresh_is_told(watched: Watched) -> None:
    """When it was."""
    watched.writer.record_success(STATUS)
    told = await watched.written_condition()
    assert ("2030-01-01T12:00:00Z", "True") == (told["last"], told["status"])


async def test_the_same_again_is_told_once_an_hour(watched: Watched) -> None:
    """A node with many pods writes little, whatever the interval is."""
    watched.writer.record_success(STATUS)
    await watched.written_condition()
    watched.clock.now = HOUR - 1
    watched.writer.record_success(STATUS)
    assert "2030-01-01T12:00:00Z" == (await watched.written_condition())["last"]
    watched.clock.now = HOUR
    watched.writer.record_success(STATUS)
    told = await watched.written_condition()
    assert "2030-01-01T13:00:00Z" == told["last"]
    assert "2030-01-01T12:00:00Z" == told["lastTransitionTime"]


async def test_a_failure_is_told_at_once_and_for_how_long_it_lasts(watched: Watched) -> None:
    """The last refresh stays; another text of the same failure is no news, another failure is."""
    watched.writer.record_success(STATUS)
    await watched.written_condition()
    watched.clock.now = 60
    watched.writer.record_failure(STATUS, AccessDeniedError("request 1"))
    told = await watched.written_condition()
    assert {
        "last": "2030-01-01T12:00:00Z",
        "type": "Refreshed",
        "status": "False",
        "reason": "AccessDenied",
        "message": "stage vault: request 1",
        "lastTransitionTime": "2030-01-01T12:01:00Z",
    } == told
    watched.clock.now = 120
    watched.writer.record_failure(STATUS, AccessDeniedError("request 2"))
    assert told == await watched.written_condition()
    watched.writer.record_failure(STATUS, ObjectNotFoundError("gone"))
    told = await watched.written_condition()
    assert "stage object: gone" == told["message"]
    assert "2030-01-01T12:01:00Z" == told["lastTransitionTime"]
    watched.writer.record_success(STATUS)
    told = await watched.written_condition()
    assert ("True", "2030-01-01T12:02:00Z") == (told["status"], told["lastTransitionTime"])


async def test_a_volume_that_is_gone_is_forgotten(watched: Watched) -> None:
    """A pod of the same name begins anew."""
    watched.writer.record_success(STATUS)
    await watched.written_condition()
    watched.writer.remove("/t")
    watched.clock.now = 60
    watched.writer.record_success(STATUS)
    told = await watched.written_condition()
    assert "2030-01-01T12:01:00Z" == told["last"] == told["lastTransitionTime"]
