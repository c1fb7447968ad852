"""Objects that end: an event on the pod, and a gauge that is right whenever it is read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef, SecretProviderClass
from keyferry.providers.expiry import Expiry
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.metrics import Metrics
from tests.fakes.clock import ManualClock

POD = PodRef("shop", "web-0", "uid")
CLASS = SecretProviderClass("shop", "web", "azure", {"a": "b"})
DAY = 86_400
END = 1_893_456_000
"""2030-01-01."""
PASSWORD = Expiry("secret db-password", END, 30 * DAY)
WEB = Expiry("cert web", END + 60 * DAY, 30 * DAY)


class Watched:
    """A watch, and what comes out of it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.clock.now = END - 31 * DAY
        self.metrics = Metrics()
        self._folder = folder
        store = ManifestsStore(folder, folder, clock=lambda: datetime(2030, 1, 1, tzinfo=UTC))
        self.watch = ExpiryMonitor(
            store,
            self.metrics,
            now=self.clock.monotonic,
            reminders=Deduplicator(clock=self.clock.monotonic),
        )

    async def deliver(self, *expiries: Expiry, target: str = "/t") -> tuple[str, ...]:
        return await self.watch.update(target, POD, CLASS, expiries)

    def counts(self) -> list[float | None]:
        """Of objects that end soon, and of those that have ended."""
        labels = {"os_type": "linux", "provider": "azure"}
        value = self.metrics.registry.get_sample_value
        name = "keyferry_objects_near_expiry"
        return [value(name, {**labels, "state": state}) for state in ("soon", "expired")]

    def events(self) -> dict[str, int]:
        """How often each message was recorded."""
        manifests = map(Path.read_text, self._folder.glob("events/shop/*"))
        found = [yaml.safe_load(text) for text in manifests]
        assert {("Warning", "ObjectNearExpiry")} >= {(m["type"], m["reason"]) for m in found}
        return {manifest["message"]: manifest["count"] for manifest in found}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def test_an_object_far_from_its_end_is_counted_as_near_when_the_time_comes(
    watched: Watched,
) -> None:
    """Without another delivery."""
    assert () == await watched.deliver(PASSWORD, WEB)
    assert [0, 0] == watched.counts()
    watched.clock.now = END - 30 * DAY
    assert [1, 0] == watched.counts()
    watched.clock.now = END + 30 * DAY
    assert [1, 1] == watched.counts()
    assert {} == watched.events()


async def test_a_delivery_tells_what_is_near_once_an_hour(watched: Watched) -> None:
    """In one event for the volume, with dates and not with what remains."""
    watched.clock.now = END - DAY
    words = ("secret db-password expires on 2030-01-01 00:00 UTC",)
    for _ in range(3):
        assert words == await watched.deliver(PASSWORD, WEB)
    message = f"of spc shop/web: {words[0]}"
    assert {message: 1} == watched.events()
    watched.clock.now += 3600
    await watched.deliver(PASSWORD, WEB)
    assert {message: 2} == watched.events()
    watched.clock.now = END + 40 * DAY
    await watched.deliver(PASSWORD, WEB)
    both = (
        "of spc shop/web: secret db-password expired on 2030-01-01 00:00 UTC; "
        "cert web expires on 2030-03-02 00:00 UTC"
    )
    assert {message: 2, both: 1} == watched.events()


async def test_volumes_are_counted_each_until_they_are_gone(watched: Watched) -> None:
    """A delivery takes the place of the one before; nothing is left of a volume that is gone."""
    watched.clock.now = END
    await watched.deliver(PASSWORD)
    await watched.deliver(PASSWORD, target="/u")
    assert [0, 2] == watched.counts()
    await watched.deliver(Expiry("secret db-password", END + 365 * DAY, DAY))
    assert [0, 1] == watched.counts()
    watched.watch.remove("/u")
    await watched.deliver()
    assert [0, 0] == watched.counts()


async def test_without_a_warning_there_is_no_series(watched: Watched) -> None:
    """As of every metric that was never used."""
    assert () == await watched.deliver()
    assert [None, None] == watched.counts()
