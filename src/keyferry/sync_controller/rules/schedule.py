"""When a SecretSync is refreshed next. [pure]

All SecretSyncs of one identity are refreshed in the same slot of the interval, so that a vault is
asked once for all of them; the slots of the identities are spread over the interval.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keyferry.rendering.class_options import refresh_interval_of
from keyferry.resilience.freshness import phase_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.resilience.freshness import RefreshSlot

MIN_INTERVAL = 1.0
"""The shortest interval: a slot must not begin before the last one is done."""


def interval_of(sync: SecretSync, spc: SecretProviderClass, default: float | None) -> float | None:
    """Return the seconds between two refreshes; None for never.

    1. The annotation of the SecretSync.
    2. `rotationPollInterval` of the SecretProviderClass.
    3. The flag of the controller.

    Args:
        sync: the SecretSync.
        spc: its SecretProviderClass.
        default: of the controller.
    """
    interval = sync.options.refresh_interval
    if interval is None:
        interval = refresh_interval_of(spc.parameters)
    if interval is None:
        interval = default
    return max(interval, MIN_INTERVAL) if interval else None


def next_refresh(
    slots: Sequence[RefreshSlot], uid: str, *, interval: float | None, now: float
) -> float | None:
    """Return when a SecretSync is refreshed next; None for never.

    Args:
        slots: of the identities that it uses; empty if they are unknown.
        uid: of the SecretSync, whose own slot counts without an identity.
        interval: seconds between two refreshes; None for never.
        now: the time.
    """
    if interval is None:
        return None
    phases = [slot.phase for slot in slots] or [phase_of(uid)]
    return min(_next_slot(phase, interval, now) for phase in phases)


def _next_slot(phase: float, interval: float, now: float) -> float:
    due = (math.floor(now / interval - phase) + 1 + phase) * interval
    return due if due > now else due + interval  # rounded to the slot that begins now
