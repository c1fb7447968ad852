"""When a volume is due for a refresh: once in an interval, at the tick of the identity it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.ticks import has_ticked, share_of

if TYPE_CHECKING:
    from keyferry.clocks import Clock
    from keyferry.driver.plugins import Plugins
    from keyferry.driver.volumes import Volume


class RefreshSchedule:
    """Tells kubelet's calls and the timer alike.

    Args:
        plugins: know which identities a volume uses, and how old their content is.
        interval: seconds between two refreshes; 0: every call of kubelet refreshes.
        node: the name of this node; ticks of the same volume on others come at other moments.
        clock: the time.
    """

    def __init__(self, plugins: Plugins, *, interval: float, node: str, clock: Clock) -> None:
        self._plugins = plugins
        self._interval = interval
        self._node = node
        self._clock = clock

    def is_due(self, volume: Volume, *, tried: float = 0.0) -> bool:
        """Whether there was a tick since its content was got, and since a refresh was `tried`.

        Where the provider does not tell, the volume has ticks of its own.
        """
        if volume.fetched is not None:
            due = self._plugins.is_due(volume.target_path, tried=tried)
            if due is not None:
                return due
            tried = max(tried, volume.fetched)
        share = share_of(self._node, volume.target_path)
        return has_ticked(tried, self._clock.monotonic(), interval=self._interval, share=share)
