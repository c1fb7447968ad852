"""Limits how many event objects a node creates, so that no outage fills etcd. [pure]

Kubernetes keeps an event for an hour. The events of one node are at most `NODE_BURST` at once and
`NODE_PER_MINUTE` afterwards, and a namespace takes at most half of them.

Times are seconds of any monotonic clock.
"""

from __future__ import annotations

from keyferry.formats.bounded_dict import BoundedDict
from keyferry.resilience.limits.token_bucket import TokenBucket

NODE_BURST = 300
NODE_PER_MINUTE = 6
NAMESPACE_BURST = NODE_BURST // 2
NAMESPACE_PER_MINUTE = NODE_PER_MINUTE // 2
NORMAL_RESERVE = 1 / 3
"""The part of each limit that only warnings may use."""

REPEAT_BURST = 3
REPEAT_SECONDS = 300.0
"""An event object is written at most `REPEAT_BURST` times at once, and then once in this time.
Repetitions in between are counted, and written with the next one."""

_MAX_NAMESPACES = 1000


def repeat_bucket(now: float) -> TokenBucket:
    """Return the limit of the writes of one event object."""
    return TokenBucket(rate=1 / REPEAT_SECONDS, burst=REPEAT_BURST, now=now)


class EventBudget:
    """Decides whether one more event object may be created.

    Args:
        now: the time.
    """

    def __init__(self, now: float) -> None:
        self._node = TokenBucket(rate=NODE_PER_MINUTE / 60, burst=NODE_BURST, now=now)
        self._namespaces: BoundedDict[str, TokenBucket] = BoundedDict(_MAX_NAMESPACES)

    def take(self, namespace: str, *, is_warning: bool, now: float) -> bool:
        """Return whether an event object may be created, and count it.

        Args:
            namespace: of the event.
            is_warning: whether it may use the whole limit.
            now: the time.
        """
        own = self._namespaces.touch(namespace)
        if own is None:
            rate = NAMESPACE_PER_MINUTE / 60
            own = self._namespaces[namespace] = TokenBucket(
                rate=rate, burst=NAMESPACE_BURST, now=now
            )
        for bucket, burst in ((self._node, NODE_BURST), (own, NAMESPACE_BURST)):
            reserve = 0.0 if is_warning else NORMAL_RESERVE * burst
            if bucket.available(now) < 1 + reserve:
                return False
        self._node.take(now)
        own.take(now)
        return True
