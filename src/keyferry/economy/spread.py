"""Refreshes spread evenly over their interval, and over the nodes of a cluster. [pure]

Whoever refreshes by a timer asks here when: each (node, identity) has its own moment in the
interval, drawn from a hash, so that no hour strikes everywhere at once, and the pods of one
identity on one node, whose moment is the same, share each call.
"""

from __future__ import annotations

from hashlib import sha256


def refresh_offset(interval: float, *, node: str, identity: str) -> float:
    """Seconds from 0 to below `interval`, always the same for the same node and identity.

    Args:
        interval: seconds between refreshes.
        node: the name of the node.
        identity: as whom is asked, however it is told apart; it is hashed.
    """
    # The length in front keeps ("ab", "c") and ("a", "bc") apart.
    digest = sha256(f"{len(node)}:{node}{identity}".encode()).digest()
    return int.from_bytes(digest[:6]) / (1 << 48) * interval


def next_refresh(now: float, interval: float, offset: float) -> float:
    """The first moment after `now` that lies `offset` seconds after a multiple of `interval`.

    Args:
        now: seconds since any moment that all callers agree on, such as 1970.
        interval: seconds between refreshes, above 0.
        offset: from `refresh_offset`.
    """
    done = (now - offset) // interval
    return (done + 1) * interval + offset
