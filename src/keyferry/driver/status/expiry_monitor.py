"""Reports objects of volumes that are about to expire, in a metric and in Kubernetes events.

The metric is computed when it is read, so it is correct between refreshes. An event is recorded
with a delivery, and repeated at most hourly.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from keyferry.driver.status.events import lease_expiring, near_expiry
from keyferry.driver.volumes.volume_events import VolumePublished, VolumeRefreshed, VolumeRemoved
from keyferry.providers.expiry import NEAR_EXPIRY_STATES, near_expiry_warnings
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.driver.volumes.volume_events import VolumeEvent
    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.kubernetes import ObjectStore, SecretProviderClass
    from keyferry.providers.expiry import Expiry, ExpiryState
    from keyferry.telemetry.metrics import Metrics

_log = get_logger("rotation")


class ExpiryMonitor:
    """Knows when the objects in the volumes of this node expire.

    Args:
        store: where Kubernetes events are recorded.
        metrics: exposes the number of objects that are about to expire.
        clock: reads the time.
    """

    def __init__(
        self,
        store: ObjectStore,
        metrics: Metrics,
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._deduplicator = Deduplicator()
        self._expiries: dict[str, tuple[str, tuple[Expiry, ...]]] = {}
        """By target path: the provider, and the expiries of its last delivery."""
        self._expiring_leases: dict[str, tuple[str, tuple[Expiry, ...]]] = {}
        """By target path: the provider, and the leases that nothing will replace."""

    async def on_volume_event(self, event: VolumeEvent) -> None:
        """Record the expiries of a volume with new content; forget those of a removed volume."""
        match event:
            case VolumePublished(expiries=None):
                pass  # fetched by an earlier process, so nothing is known
            case VolumePublished(volume, spc, expiries=expiries) | VolumeRefreshed(
                volume, spc, expiries=expiries
            ):
                await self._update(volume, spc, expiries or ())
            case VolumeRemoved(target_path=target_path):
                self._remove(target_path)
            case _:
                pass

    async def report_expiring_leases(
        self, volume: Volume, provider: str, expiries: tuple[Expiry, ...]
    ) -> None:
        """Report leases that expire without replacement, as rotation is off.

        Args:
            volume: the volume with the secrets.
            provider: the provider that holds the leases.
            expiries: when they expire; reported whether or not the SecretProviderClass asks.
        """
        self._expiring_leases[volume.target_path] = (provider, expiries)
        self._register_gauges(provider)
        now = self._clock.wall().timestamp()
        warnings = tuple(expiry.warning(now) for expiry in expiries)
        if self._is_due(volume, warnings):
            event = lease_expiring(volume.pod, volume.class_name, warnings)
            _log.warning(
                "leases expire and rotation is off",
                pod=ObjectName(volume.pod.namespace, volume.pod.name),
                spc=ObjectName(volume.pod.namespace, volume.class_name),
                leases="; ".join(warnings),
                remedy="set --enable-secret-rotation, or raise max_ttl and restart the pod",
            )
            await self._store.record_event(event)

    async def _update(
        self, volume: Volume, spc: SecretProviderClass, expiries: tuple[Expiry, ...]
    ) -> None:
        self._remove(volume.target_path)
        expiries = tuple(expiry for expiry in expiries if expiry.warn_before)
        if not expiries:
            return
        self._expiries[volume.target_path] = (spc.provider, expiries)
        self._register_gauges(spc.provider)
        warnings = near_expiry_warnings(expiries, self._clock.wall().timestamp())
        if warnings and self._is_due(volume, warnings):
            await self._store.record_event(near_expiry(volume.pod, spc, warnings))

    def _remove(self, target_path: str) -> None:
        self._expiries.pop(target_path, None)
        self._expiring_leases.pop(target_path, None)

    def _register_gauges(self, provider: str) -> None:
        for state in NEAR_EXPIRY_STATES:
            self._metrics.watch_near_expiry(
                provider, state.value, partial(self._count, provider, state)
            )

    def _count(self, provider: str, state: ExpiryState) -> int:
        now = self._clock.wall().timestamp()
        return sum(
            expiry.state(now) is state
            for of_provider, expiries in [*self._expiries.values(), *self._expiring_leases.values()]
            if of_provider == provider
            for expiry in expiries
        )

    def _is_due(self, volume: Volume, warnings: tuple[str, ...]) -> bool:
        key = (volume.target_path, warnings)
        return self._deduplicator.should_notify(key, self._clock.monotonic())
