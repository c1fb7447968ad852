"""keyferry.driver.status.stale_content_reporter: one event for each pod and vault."""

from __future__ import annotations

from pathlib import Path

import yaml

from keyferry.driver.status.stale_content_reporter import StaleContentReporter
from keyferry.driver.volumes.volume_events import VolumePublished, VolumeRefreshed
from keyferry.driver.volumes.volume_table import Volume
from keyferry.kubernetes.files.store import ManifestsStore
from keyferry.kubernetes.objects import PodRef, SecretProviderClass
from keyferry.kubernetes.pod_status import pod_status
from keyferry.providers.api import StaleContent
from tests.fakes.clock import START, ManualClock

SPC = SecretProviderClass("shop", "web", "azure", {"a": "b"})
STALE = StaleContent("contoso.vault.azure.net", START.timestamp() - 600.0)


async def test_pod_that_started_with_stale_content_gets_one_event(tmp_path: Path) -> None:
    clock = ManualClock()
    reporter = StaleContentReporter(ManifestsStore(tmp_path, tmp_path, clock=clock), clock)
    other = StaleContent("other.vault.azure.net", STALE.fetched_at)
    for pod, stale in (
        ("web-0", (STALE,)),
        ("web-0", (STALE,)),
        ("web-0", (STALE, other)),
        ("web-1", (STALE,)),
        ("web-2", ()),
    ):
        ref = PodRef("shop", pod, f"uid-{pod}")
        volume = Volume(f"/{pod}", ref, "web", START)
        status = pod_status(ref, "web", f"/{pod}", "node-1", ())
        published = VolumePublished(volume, SPC, status, False, (), stale)
        await reporter.on_volume_event(published)
        await reporter.on_volume_event(VolumeRefreshed(volume, SPC, status, ()))
    events = [
        yaml.safe_load(path.read_text())
        for path in tmp_path.rglob("*.yaml")
        if "StaleContentMounted" in path.read_text()
    ]
    assert 3 == len(events)
    assert {"Warning"} == {event["type"] for event in events}
    message = (
        "started with content that was fetched earlier, because vault contoso.vault.azure.net is"
        " unavailable: spc shop/web"
    )
    assert 2 == [event["message"] for event in events].count(message)
