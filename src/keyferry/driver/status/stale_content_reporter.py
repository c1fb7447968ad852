"""Reports pods that started with stale content, because a vault is unavailable, in an event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyferry.driver.status.events import stale_content_mounted
from keyferry.driver.volumes.volume_events import VolumePublished
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.driver.volumes.volume_events import VolumeEvent
    from keyferry.kubernetes import ObjectStore
    from keyferry.kubernetes.objects import PodRef, SecretProviderClass
    from keyferry.providers.api import StaleContent

_log = get_logger("publish")


class StaleContentReporter:
    """Records one event for each pod and vault, repeated at most hourly.

    Args:
        store: where Kubernetes events are recorded.
        clock: reads the time.
    """

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._deduplicator = Deduplicator()

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Report a volume that was published with stale content."""
        match event:
            case VolumePublished(volume, spc, stale=stale):
                for content in stale:
                    await self._report(volume.pod, spc, content)
            case _:
                pass

    async def _report(self, pod: PodRef, spc: SecretProviderClass, stale: StaleContent) -> None:
        if not self._deduplicator.should_notify((pod, stale.vault), self._clock.monotonic()):
            return
        _log.warning(
            "pod started with stale content, because the vault is unavailable",
            pod=ObjectName(pod.namespace, pod.name),
            vault=stale.vault,
            fetchedAt=datetime.fromtimestamp(stale.fetched_at, UTC).isoformat(),
        )
        await self._store.record_event(stale_content_mounted(pod, spc, stale))
