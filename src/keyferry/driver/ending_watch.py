"""Sees to it that what a vault renews no further is replaced in time, or that somebody hears of it.

Rotation on: its volume is refreshed now, however long the interval still is. Rotation off: nothing
replaces it, so the pod is told what ends, and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.logs import get_logger
from keyferry.reminders import Reminders

if TYPE_CHECKING:
    from keyferry.clocks import Clock
    from keyferry.driver.expiry_watch import ExpiryWatch
    from keyferry.driver.plugins import Plugins
    from keyferry.driver.rotation import RotationTimer
    from keyferry.driver.volumes import Volumes
    from keyferry.expiry import Expiry

LOOK_SECONDS = 5.0
"""Between two looks."""
AGAIN_SECONDS = 30.0
"""A refresh that did not help is tried again so much later."""
_log = get_logger("rotation")


class EndingWatch:
    """Looks at what ends in the volumes of this node.

    Args:
        plugins: know what ends.
        volumes: what is published here.
        timer: refreshes volumes; None where rotation is off.
        expiries: tells of what nothing replaces.
        clock: the time.
    """

    def __init__(
        self,
        plugins: Plugins,
        *,
        volumes: Volumes,
        timer: RotationTimer | None,
        expiries: ExpiryWatch,
        clock: Clock,
    ) -> None:
        self._plugins = plugins
        self._volumes = volumes
        self._timer = timer
        self._expiries = expiries
        self._clock = clock
        self._hurried = Reminders(AGAIN_SECONDS, clock=clock.monotonic)

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - a defect of one look ends no other
                _log.error("a defect of Keyferry", type=type(error).__name__)

    async def look(self) -> None:
        """Have volumes refreshed, or tell of them."""
        found: dict[tuple[str, str], list[Expiry]] = {}
        for provider, ending in self._plugins.endings():
            found.setdefault((provider, ending.target_path), []).append(ending.expiry)
        for (provider, target), expiries in found.items():
            volume = self._volumes.get(target)
            if volume is None:
                continue
            if self._timer is None:
                await self._expiries.ending(volume, provider, tuple(expiries))
            elif self._hurried.due(target):
                self._timer.hurry(target)
