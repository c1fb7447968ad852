"""Watches which hosts a mount waits for, so that a slow one can be explained while it lasts."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOW_SECONDS = 3.0
"""After this time, a mount says what it waits for."""


class Wait(Struct, eq=False):
    """A request to a host, retries included.

    Attributes:
        stage: IDENTITY for a token or a login, else VAULT.
        host: the name of the host.
        problem: why the last attempt failed; "" for none.
    """

    stage: Stage
    host: str
    problem: str = ""

    def __str__(self) -> str:
        """Describe it, to follow "waiting for"."""
        what = "a token from " if self.stage is Stage.IDENTITY else ""
        return f"{what}{self.host}" + (f" ({self.problem})" if self.problem else "")


class WaitMonitor:
    """The requests that one mount waits for, oldest first."""

    def __init__(self) -> None:
        self._waits: list[Wait] = []

    def current(self) -> Wait | None:
        """Return the oldest request; None if another mount's request is awaited, or none."""
        return self._waits[0] if self._waits else None

    @contextmanager
    def waiting(self, wait: Wait) -> Iterator[Wait]:
        """Count `wait` for the duration of the block."""
        self._waits.append(wait)
        try:
            yield wait
        finally:
            self._waits.remove(wait)


_monitor: ContextVar[WaitMonitor | None] = ContextVar("wait_monitor", default=None)


@contextmanager
def watching() -> Iterator[WaitMonitor]:
    """Watch the requests of the block and of the tasks that it starts."""
    token = _monitor.set(monitor := WaitMonitor())
    try:
        yield monitor
    finally:
        _monitor.reset(token)


@contextmanager
def waiting_for(stage: Stage, host: str) -> Iterator[Wait]:
    """Let the current mount, if it is watched, know what it waits for."""
    monitor = _monitor.get()
    wait = Wait(stage, host)
    if monitor is None:
        yield wait
        return
    with monitor.waiting(wait):
        yield wait


@contextmanager
def reporting_slow_wait(report: Callable[[Wait | None], None], seconds: float) -> Iterator[None]:
    """Call `report` once if the block takes longer than `seconds`.

    Does nothing in a block that is watched already; the outer one reports.
    """
    if _monitor.get() is not None:
        yield
        return
    with watching() as monitor:
        timer = asyncio.get_running_loop().call_later(seconds, lambda: report(monitor.current()))
        try:
            yield
        finally:
            timer.cancel()
