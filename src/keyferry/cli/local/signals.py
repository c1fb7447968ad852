"""Signals that stop a command in the terminal."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, TypeVar

from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.failures import InterruptedBySignalError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """The first signal that asks this process to stop; the second one ends it at once.

    Create it in a running event loop. A signal that the process was started to ignore, for example
    with `nohup`, stays ignored.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.number: int | None = None
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        if self.number is not None:
            os._exit(ExitCode.SIGNAL + number)
        self.number = number
        self._event.set()

    def check(self) -> None:
        """Do nothing unless a signal arrived.

        Raises:
            InterruptedBySignalError: a signal arrived.
        """
        if self.number is not None:
            raise InterruptedBySignalError(self.number)

    async def within(self, seconds: float) -> bool:
        """Wait, and return whether a signal arrived."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def interrupts(self, work: Coroutine[None, None, T]) -> T:
        """Return the result of `work`. A signal cancels it, and its cleanup runs.

        Raises:
            InterruptedBySignalError: a signal arrived.
        """
        task = asyncio.ensure_future(work)
        waiting = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        finally:
            task.cancel()
            waiting.cancel()
        if self.number is not None and not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it
        self.check()
        return task.result()
