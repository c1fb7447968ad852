"""Exponential backoff with jitter."""

from __future__ import annotations

import random

MAX_BACKOFF_SECONDS = 300.0


def exponential_backoff(failures: int, *, max_seconds: float = MAX_BACKOFF_SECONDS) -> float:
    """Return the seconds to wait after `failures` failures in a row.

    The base doubles from 0.5 s up to `max_seconds`; the delay is drawn from its upper half, so that
    the nodes of a cluster do not retry at the same time.
    """
    base: float = min(max_seconds, 0.5 * 2.0 ** min(failures, 12))
    return base * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
