"""Watches when the objects in the volumes of this node end, and tells of those that are near.

The gauge is computed when it is read, so it is right without a refresh; the event comes with a
delivery, at once and then every hour for as long as it holds.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from keyferry.driver.events import near_expiry
from keyferry.expiry import ExpiryState
from keyferry.reminders import Reminders

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.expiry import Expiry
    from keyferry.metrics import Metrics
    from keyferry.store import ClassObject, ObjectStore, PodRef

NEAR = (ExpiryState.SOON, ExpiryState.EXPIRED)


class ExpiryWatch:
    """Knows the objects of all volumes whose classes ask for a warning.

    Args:
        store: takes the events.
        metrics: shows how many objects are near their end.
        now: seconds since 1970.
        reminders: how often an event is repeated.
    """

    def __init__(
        self,
        store: ObjectStore,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
        reminders: Reminders | None = None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._now = now
        self._reminders = reminders or Reminders()
        self._volumes: dict[str, tuple[str, tuple[Expiry, ...]]] = {}
        """By target path: the provider, and what it told last."""

    async def delivered(
        self, target: str, pod: PodRef, cls: ClassObject, expiries: tuple[Expiry, ...]
    ) -> tuple[str, ...]:
        """A volume holds these objects now; returns a sentence for each that is near its end."""
        self._volumes.pop(target, None)
        if not expiries:
            return ()
        self._volumes[target] = (cls.provider, expiries)
        for state in NEAR:
            self._metrics.near_expiry(
                cls.provider, state.value, partial(self._count, cls.provider, state)
            )
        now = self._now()
        sentences = tuple(expiry.sentence(now) for expiry in expiries if expiry.state(now) in NEAR)
        if sentences and self._reminders.due((target, sentences)):
            await self._store.record_event(near_expiry(pod, cls, sentences))
        return sentences

    def gone(self, target: str) -> None:
        """A volume is no more."""
        self._volumes.pop(target, None)

    def _count(self, provider: str, state: ExpiryState) -> int:
        now = self._now()
        return sum(
            expiry.state(now) is state
            for of_provider, expiries in list(self._volumes.values())
            if of_provider == provider
            for expiry in expiries
        )
