"""keyferry.driver.status.expiry_monitor: an event on the pod, and a gauge computed when read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from keyferry.driver.status.expiry_monitor import ExpiryMonitor
from keyferry.driver.volumes.volume_events import VolumePublished, VolumeRefreshed, VolumeRemoved
from keyferry.driver.volumes.volume_table import Volume
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef, SecretProviderClass
from keyferry.kubernetes.pod_status import pod_status
from keyferry.providers.expiry import Expiry
from keyferry.telemetry.metrics import Metrics
from tests.fakes.clock import START, ManualClock

POD = PodRef("shop", "web-0", "uid")
SPC = SecretProviderClass("shop", "web", "azure", {"a": "b"})
STATUS = pod_status(POD, "web", "/t", "node-1", ())
DAY = 86_400
END = 1_893_456_000
"""2030-01-01."""
PASSWORD = Expiry("secret db-password", END, 30 * DAY)
WEB = Expiry("cert web", END + 60 * DAY, 30 * DAY)


class Node:
    """A monitor with its clock, metrics and events."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.set_time(END - 31 * DAY)
        self.metrics = Metrics()
        self._folder = folder
        store = ManifestsStore(folder, folder, clock=ManualClock())
        self.monitor = ExpiryMonitor(
            store,
            self.metrics,
            clock=self.clock,
        )

    def set_time(self, epoch: float) -> None:
        """Set the clock to `epoch` seconds since 1970."""
        self.clock.now = epoch - START.timestamp()

    async def refresh(self, *expiries: Expiry, target: str = "/t") -> None:
        """Refresh the volume at `target`, whose objects then have these expiries."""
        volume = Volume(target, POD, "web", START)
        await self.monitor.on_volume_event(VolumeRefreshed(volume, SPC, STATUS, expiries))

    async def remove(self, target: str) -> None:
        """Remove the volume at `target`."""
        await self.monitor.on_volume_event(VolumeRemoved(target, None, unpublished=True))

    def counts(self) -> list[float | None]:
        """Return the number of objects that expire soon, and that have expired."""
        labels = {"os_type": "linux", "provider": "azure"}
        value = self.metrics.registry.get_sample_value
        name = "keyferry_objects_near_expiry"
        return [value(name, {**labels, "state": state}) for state in ("soon", "expired")]

    def events(self) -> dict[str, int]:
        """Return how often each message was recorded."""
        manifests = map(Path.read_text, self._folder.glob("events/shop/*"))
        found = [yaml.safe_load(text) for text in manifests]
        assert {("Warning", "ObjectNearExpiry")} >= {(m["type"], m["reason"]) for m in found}
        return {manifest["message"]: manifest["count"] for manifest in found}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_object_is_counted_as_near_expiry_between_refreshes(node: Node) -> None:
    """The gauge is computed when it is read."""
    await node.refresh(PASSWORD, WEB)
    assert [0, 0] == node.counts()
    node.set_time(END - 30 * DAY)
    assert [1, 0] == node.counts()
    node.set_time(END + 30 * DAY)
    assert [1, 1] == node.counts()
    assert {} == node.events()


async def test_refresh_warns_of_objects_near_expiry_once_an_hour(node: Node) -> None:
    """In one event for the volume, with dates instead of the remaining time."""
    node.set_time(END - DAY)
    for _ in range(3):
        await node.refresh(PASSWORD, WEB)
    message = "of spc shop/web: secret db-password expires on 2030-01-01 00:00 UTC"
    assert {message: 1} == node.events()
    node.clock.now += 3600
    await node.refresh(PASSWORD, WEB)
    assert {message: 2} == node.events()
    node.set_time(END + 40 * DAY)
    await node.refresh(PASSWORD, WEB)
    both = (
        "of spc shop/web: secret db-password expired on 2030-01-01 00:00 UTC; "
        "cert web expires on 2030-03-02 00:00 UTC"
    )
    assert {message: 2, both: 1} == node.events()


async def test_each_volume_is_counted_until_it_is_removed(node: Node) -> None:
    """A refresh replaces the expiries of the delivery before it."""
    node.set_time(END)
    await node.refresh(PASSWORD)
    await node.refresh(PASSWORD, target="/u")
    assert [0, 2] == node.counts()
    await node.refresh(Expiry("secret db-password", END + 365 * DAY, DAY))
    assert [0, 1] == node.counts()
    await node.remove("/u")
    await node.refresh()
    assert [0, 0] == node.counts()


async def test_adopted_volume_keeps_no_expiries(node: Node) -> None:
    """An earlier process fetched its content, so its expiries are unknown."""
    volume = Volume("/t", POD, "web", START)
    adopted = VolumePublished(volume, SPC, STATUS, status_required=False, expiries=None)
    await node.monitor.on_volume_event(adopted)
    assert [None, None] == node.counts()


async def test_no_series_exists_without_an_expiry(node: Node) -> None:
    """Like other metrics that were never used; an object for which nobody wants a warning, too."""
    node.set_time(END + DAY)
    await node.refresh(Expiry("secret quiet", END, 0.0))
    assert {} == node.events()
    assert [None, None] == node.counts()
