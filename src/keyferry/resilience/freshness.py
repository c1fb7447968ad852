"""Decides whether cached content is fresh enough, and whether a volume is due for a refresh. [pure]

Times are seconds of any monotonic clock. `validated_at` is when the vault was last asked whether
the content is current.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.resilience.call_context import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.resilience.cache_key import CacheKey, IdentityKey

_PHASE_BYTES = 8


def phase_of(*names: str) -> float:
    """Return a number in [0, 1) that is the same for equal names and evenly spread over names."""
    text = "\0".join(f"{len(name)}:{name}" for name in names)
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=_PHASE_BYTES).digest()
    phase: float = int.from_bytes(digest) / 256**_PHASE_BYTES
    return phase


def slot_passed(since: float, now: float, *, interval: float, phase: float) -> bool:
    """Return whether a refresh slot began after `since` and not after `now`.

    Args:
        since: a time.
        now: a time not before `since`.
        interval: seconds between two slots; 0: a slot always passed.
        phase: when in the interval the slot is, as a fraction in [0, 1).
    """
    if not interval:
        return True
    return math.floor(since / interval - phase) < math.floor(now / interval - phase)


def next_slot(since: float, *, interval: float, phase: float) -> float:
    """Return when the first slot after `since` begins: `slot_passed` is false until then.

    Args:
        since: a time.
        interval: seconds between two slots; 0: a slot always passed.
        phase: when in the interval the slot is, as a fraction in [0, 1).
    """
    if not interval:
        return since
    return (math.floor(since / interval - phase) + 1 + phase) * interval


class RefreshSlot(Struct, frozen=True):
    """When the content of one identity in a volume is to be refreshed.

    Attributes:
        phase: when in the refresh interval the slot of the identity is, in [0, 1).
        validated_at: when its oldest content was validated, in seconds of the monotonic clock of
            this machine.
    """

    phase: float
    validated_at: float


def refresh_slots(retained: Mapping[CacheKey, float]) -> tuple[RefreshSlot, ...]:
    """Return the slots of a volume, one for each identity that it uses.

    Args:
        retained: what the volume uses, and when each entry was validated.
    """
    oldest: dict[IdentityKey, float] = {}
    for key, since in retained.items():
        oldest[key.identity] = min(since, oldest.get(key.identity, since))
    return tuple(
        RefreshSlot(phase_of(identity.mode, *identity.digest), since)
        for identity, since in oldest.items()
    )


def is_refresh_due(
    slots: Iterable[RefreshSlot], *, last_attempt: float, now: float, interval: float
) -> bool:
    """Return whether a volume is due for a refresh.

    It is due when one of its slots has passed since the content was validated, and since the last
    attempt.

    Args:
        slots: of the volume.
        last_attempt: the time of the last refresh, successful or not.
        now: the time.
        interval: seconds between two slots; 0: a slot always passed.
    """
    return any(
        slot_passed(max(slot.validated_at, last_attempt), now, interval=interval, phase=slot.phase)
        for slot in slots
    )


class Wanted(Struct, frozen=True):
    """How fresh content must be for one call.

    Attributes:
        interval: seconds between two refresh slots of the caller; None for those of the settings.
        not_before: content that was validated before this time is too old; None without a bound.
    """

    interval: float | None = None
    not_before: float | None = None


ANY = Wanted()


class FreshnessPolicy:
    """The rules for cached content.

    Args:
        cache_ttl: seconds for which first mounts share content.
        refresh_interval: seconds between two refresh slots of an identity; None without rotation.
    """

    def __init__(self, *, cache_ttl: float, refresh_interval: float | None) -> None:
        self._cache_ttl = cache_ttl
        self._refresh_interval = refresh_interval

    def is_fresh(
        self,
        validated_at: float,
        *,
        identity: IdentityKey,
        purpose: Purpose,
        max_age: float | None,
        now: float,
        wanted: Wanted = ANY,
    ) -> bool:
        """Return whether cached content may be used. The first case that applies decides:

        1. It was validated before `wanted.not_before`: no.
        2. `max_age` is set: the content is younger.
        3. A refresh, with rotation: no refresh slot of the identity has passed.
        4. Otherwise: the content is younger than the cache TTL.

        Args:
            validated_at: when the vault was last asked.
            identity: the identity that reads the content.
            purpose: why it is read.
            max_age: seconds; None for the rules of the settings.
            now: the time.
            wanted: what the caller asks for.
        """
        if wanted.not_before is not None and validated_at < wanted.not_before:
            return False
        if max_age is not None:
            return now - validated_at < max_age
        interval = wanted.interval or self._refresh_interval
        if purpose is Purpose.REFRESH and interval is not None:
            phase = phase_of(identity.mode, *identity.digest)
            return not slot_passed(validated_at, now, interval=interval, phase=phase)
        return now - validated_at < self._cache_ttl
