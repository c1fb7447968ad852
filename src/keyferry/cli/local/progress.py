"""Says what a command waits for, once it takes long, and ends it after `--timeout`."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from keyferry.cli.console import console
from keyferry.errors import ConnectionFailedError
from keyferry.resilience.waiting import SLOW_SECONDS, watching

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from keyferry.providers.emulator import EmulatorCommands
    from keyferry.resilience.waiting import WaitMonitor

T = TypeVar("T")

_UPDATE_SECONDS = 1.0
_CLEAR_LINE = "\r\x1b[K"


async def with_progress(
    work: Coroutine[None, None, T],
    *,
    timeout: float | None,  # noqa: ASYNC109 - the value of --timeout
    emulator: EmulatorCommands | None = None,
) -> T:
    """Return the result of `work`.

    After three seconds, a line on a terminal shows what it waits for until it is done; elsewhere
    one line on standard error says so once.

    Args:
        work: sends requests to vaults.
        timeout: in seconds; None for no limit.
        emulator: the commands of the development vault that receives the requests, or None.

    Raises:
        ConnectionFailedError: it took longer than `timeout`.
    """
    with watching() as monitor:
        reporter = asyncio.create_task(_report(monitor))
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=timeout)
            if not task.done():
                error = _timeout_error(monitor, timeout or 0.0, emulator)
                await _cancel(task)
                raise error
            return task.result()
        finally:
            await _cancel(task)
            await _cancel(reporter)


async def _cancel(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until its cleanup is done."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _timeout_error(
    monitor: WaitMonitor, timeout: float, emulator: EmulatorCommands | None
) -> ConnectionFailedError:
    wait = monitor.current()
    awaited = f"; it was waiting for {wait}" if wait else ""
    return ConnectionFailedError(
        f"the objects could not be fetched within {timeout:g} s (--timeout){awaited}",
        emulator.fault_remedy()
        if emulator
        else "Check that the host responds to this machine, or set a longer --timeout.",
        stage=wait.stage if wait else None,
    )


async def _report(monitor: WaitMonitor) -> None:
    """Print what is awaited, until this task is cancelled."""
    await asyncio.sleep(SLOW_SECONDS)
    out = console()
    if out.quiet:
        return
    if not sys.stderr.isatty():
        out.note(_line(monitor, SLOW_SECONDS))
        return
    seconds = SLOW_SECONDS
    with _status_line():
        while True:
            # A line that wraps could not be cleared.
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"{_CLEAR_LINE}{_line(monitor, seconds)[:width]}")
            sys.stderr.flush()
            await asyncio.sleep(_UPDATE_SECONDS)
            seconds += _UPDATE_SECONDS


@contextmanager
def _status_line() -> Iterator[None]:
    """Remove the line at the end of the block."""
    try:
        yield
    finally:
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()


def _line(monitor: WaitMonitor, seconds: float) -> str:
    wait = monitor.current()
    awaited = f"{wait.stage.value}: waiting for {wait}" if wait else "working"
    return f"{awaited} ({seconds:.0f} s)"
