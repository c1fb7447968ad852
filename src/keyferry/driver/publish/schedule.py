"""When a volume is due for a refresh: once in an interval, at the tick of the identity it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.resilience.ticks import phase_of, slot_passed

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.driver.providers import Providers
    from keyferry.driver.volumes.volume_table import Volume


class RefreshSchedule:
    """Tells kubelet's calls and the timer alike.

    Args:
        providers: know which identities a volume uses, and how old their content is.
        interval: seconds between two refreshes; 0: every call of kubelet refreshes.
        node: the name of this node; ticks of the same volume on others come at other moments.
        clock: the time.
    """

    def __init__(self, providers: Providers, *, interval: float, node: str, clock: Clock) -> None:
        self._providers = providers
        self._interval = interval
        self._node = node
        self._clock = clock

    def is_due(self, volume: Volume, *, last_attempt: float = 0.0) -> bool:
        """Return whether a refresh slot passed since the last fetch and since `last_attempt`.

        Where the provider does not tell, the volume has ticks of its own.
        """
        if volume.fetched_monotonic is not None:
            due = self._providers.is_due(volume.target_path, last_attempt=last_attempt)
            if due is not None:
                return due
            last_attempt = max(last_attempt, volume.fetched_monotonic)
        share = phase_of(self._node, volume.target_path)
        return slot_passed(
            last_attempt, self._clock.monotonic(), interval=self._interval, phase=share
        )
