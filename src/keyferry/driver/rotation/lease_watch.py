"""Sees to it that what a vault renews no further is replaced in time, or that somebody hears of it.

Rotation on: its volume is refreshed now, however long the interval still is. Rotation off: nothing
replaces it, so the pod is told what ends, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.driver.providers import Providers
    from keyferry.driver.rotation.rotator import Rotator
    from keyferry.driver.status.expiry_monitor import ExpiryMonitor
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.providers.expiry import Expiry

CHECK_SECONDS = 5.0
"""Between two looks."""
RETRY_SECONDS = 30.0
"""A refresh that did not help is tried again so much later."""
_log = get_logger("rotation")


class LeaseExpiryWatcher:
    """Looks at what ends in the volumes of this node.

    Args:
        providers: know what ends.
        volumes: what is published here.
        rotator: refreshes volumes; None where rotation is off.
        expiry_monitor: tells of what nothing replaces.
        clock: the time.
    """

    def __init__(
        self,
        providers: Providers,
        *,
        volumes: VolumeTable,
        rotator: Rotator | None,
        expiry_monitor: ExpiryMonitor,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._volumes = volumes
        self._rotator = rotator
        self._expiry_monitor = expiry_monitor
        self._clock = clock
        self._requested = Deduplicator(RETRY_SECONDS)

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - a defect of one look ends no other
                _log.error("a defect of Keyferry", type=type(error).__name__)

    async def check(self) -> None:
        """Have volumes refreshed, or tell of them."""
        found: dict[tuple[str, str], list[Expiry]] = {}
        for provider, ending in self._providers.expiring_leases():
            found.setdefault((provider, ending.target_path), []).append(ending.expiry)
        for (provider, target), expiries in found.items():
            volume = self._volumes.get(target)
            if volume is None:
                continue
            if self._rotator is None:
                await self._expiry_monitor.report_expiring_leases(volume, provider, tuple(expiries))
            elif self._requested.should_notify(target, self._clock.monotonic()):
                self._rotator.refresh_now(target)
