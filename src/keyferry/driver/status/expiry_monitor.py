"""Watches when the objects in the volumes of this node end, and tells of those that are near.

The gauge is computed when it is read, so it is right without a refresh; the event comes with a
delivery, at once and then every hour for as long as it holds. What ends for good is told without.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from keyferry.driver.status.events import lease_expiring, near_expiry
from keyferry.providers.expiry import ExpiryState
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.kubernetes import ObjectStore, PodRef, SecretProviderClass
    from keyferry.providers.expiry import Expiry
    from keyferry.telemetry.metrics import Metrics

_log = get_logger("rotation")
NEAR_EXPIRY_STATES = (ExpiryState.SOON, ExpiryState.EXPIRED)


class ExpiryMonitor:
    """Knows the objects of all volumes whose classes ask for a warning.

    Args:
        store: takes the events.
        metrics: shows how many objects are near their end.
        now: seconds since 1970.
        reminders: how often an event is repeated.
    """

    def __init__(
        self,
        store: ObjectStore,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
        reminders: Deduplicator | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._now = now
        self._reminders = reminders or Deduplicator()
        self._expiries: dict[str, tuple[str, tuple[Expiry, ...]]] = {}
        """By target path: the provider, and what it told last."""
        self._expiring_leases: dict[str, tuple[str, tuple[Expiry, ...]]] = {}
        """The same for what nothing will replace."""

    async def update(
        self, target_path: str, pod: PodRef, spc: SecretProviderClass, expiries: tuple[Expiry, ...]
    ) -> tuple[str, ...]:
        """A volume holds these objects now; returns a sentence for each that is near its end."""
        self.remove(target_path)
        if not expiries:
            return ()
        self._expiries[target_path] = (spc.provider, expiries)
        self._register_gauges(spc.provider)
        now = self._now()
        sentences = tuple(
            expiry.warning(now) for expiry in expiries if expiry.state(now) in NEAR_EXPIRY_STATES
        )
        if sentences and self._reminders.should_notify((target_path, sentences)):
            await self._store.record_event(near_expiry(pod, spc, sentences))
        return sentences

    async def report_expiring_leases(
        self, volume: Volume, provider: str, expiries: tuple[Expiry, ...]
    ) -> None:
        """These end in a volume, whatever its class asks, and nothing will replace them."""
        self._expiring_leases[volume.target_path] = (provider, expiries)
        self._register_gauges(provider)
        now = self._now()
        sentences = tuple(expiry.warning(now) for expiry in expiries)
        if self._reminders.should_notify((volume.target_path, sentences)):
            event = lease_expiring(volume.pod, volume.class_name, sentences)
            _log.warning(
                "what is in a volume ends, and is not replaced while rotation is off",
                pod=ObjectName(volume.pod.namespace, volume.pod.name),
                spc=ObjectName(volume.pod.namespace, volume.class_name),
                ends="; ".join(sentences),
                remedy="--enable-secret-rotation, or a higher max_ttl and a restart of the pod",
            )
            await self._store.record_event(event)

    def remove(self, target_path: str) -> None:
        """A volume is no more, or has other content."""
        self._expiries.pop(target_path, None)
        self._expiring_leases.pop(target_path, None)

    def _register_gauges(self, provider: str) -> None:
        for state in NEAR_EXPIRY_STATES:
            self._metrics.watch_near_expiry(
                provider, state.value, partial(self._count, provider, state)
            )

    def _count(self, provider: str, state: ExpiryState) -> int:
        now = self._now()
        return sum(
            expiry.state(now) is state
            for of_provider, expiries in [*self._expiries.values(), *self._expiring_leases.values()]
            if of_provider == provider
            for expiry in expiries
        )
