"""When content that is held is asked for anew: whoever holds it has ticks of their own. [pure]

A tick comes once in an interval, at a moment that a digest of who it is decides. So those who share
content ask for it in the same moment and share the call, those who share nothing are spread evenly
over the interval, and content is one interval old at the most.
"""

from __future__ import annotations

import math
from hashlib import blake2b

_PHASE_BYTES = 8


def phase_of(*names: str) -> float:
    """A number from 0 up to 1, always the same for these names, that scatters all names evenly."""
    text = "\0".join(f"{len(name)}:{name}" for name in names)
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=_PHASE_BYTES).digest()
    share: float = int.from_bytes(digest) / 256**_PHASE_BYTES
    return share


def slot_passed(since: float, now: float, *, interval: float, phase: float) -> bool:
    """Whether there was a tick after `since`; with an interval of 0 there always was.

    Args:
        since: seconds from an arbitrary start.
        now: likewise, not before `since`.
        interval: seconds between two ticks.
        phase: of the interval that goes by before the first tick, from 0 up to 1.
    """
    if not interval:
        return True
    return math.floor(since / interval - phase) < math.floor(now / interval - phase)
