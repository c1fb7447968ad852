"""Refreshes volumes whose leases can no longer be renewed.

With rotation, the volume is refreshed at once, if possible before the lease expires. Without
rotation, nothing replaces the lease, so a warning is recorded on the pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.driver.rotation.rotator import Rotator
    from keyferry.driver.status.expiry_monitor import ExpiryMonitor
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.plugins.providers import Providers
    from keyferry.providers.expiry import Expiry

CHECK_SECONDS = 5.0
"""Seconds between two checks."""
RETRY_SECONDS = 30.0
"""Seconds until a refresh that did not replace a lease is retried, while the lease is valid."""
EXPIRED_RETRY_SECONDS = 300.0
"""The same once it has expired, in addition to the refreshes that are due."""
_log = get_logger("rotation")


class LeaseExpiryWatcher:
    """Checks the leases of the volumes of this node.

    Args:
        providers: know the expiring leases.
        volumes: the published volumes of this node.
        rotator: refreshes volumes; None when rotation is off.
        expiry_monitor: reports leases that nothing replaces.
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
        self._requested_expired = Deduplicator(EXPIRED_RETRY_SECONDS)

    async def run(self) -> None:
        """Check repeatedly until cancelled."""
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - later checks must still run
                _log.error("internal error", type=type(error).__name__)

    async def check(self) -> None:
        """Request a refresh of each volume with an expiring lease, or report the lease."""
        if not self._providers.have_leases(volume.provider for volume in self._volumes):
            return
        expiring: dict[tuple[str, str], list[Expiry]] = {}
        for provider, lease in await self._providers.expiring_leases():
            expiring.setdefault((provider, lease.target_path), []).append(lease.expiry)
        for (provider, target), expiries in expiring.items():
            volume = self._volumes.get(target)
            if volume is None:
                continue
            now, wall = self._clock.monotonic(), self._clock.wall().timestamp()
            have_expired = all(expiry.expires_at <= wall for expiry in expiries)
            requested = self._requested_expired if have_expired else self._requested
            if self._rotator is None:
                await self._expiry_monitor.report_expiring_leases(volume, provider, tuple(expiries))
            elif requested.should_notify(target, now):
                self._rotator.refresh_now(target)
