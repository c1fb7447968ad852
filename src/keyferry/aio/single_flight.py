"""Single flight: whoever asks for what is already being asked for waits for that answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class SharedCall(Generic[T]):
    """One call and those who wait for it.

    Args:
        work: the call.
        on_done: told once, when the call is over or was given up.
    """

    def __init__(self, work: Coroutine[Any, Any, T], on_done: Callable[[], None]) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order in which they came
        self._on_done = on_done
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._wake_waiters)

    async def wait(self) -> T:
        """The result of the call.

        Who is cancelled here leaves the call to the others; the last one takes it along.

        Raises:
            Exception: what the call raised, as a copy for each who waits: a traceback is the story
                of one of them.
        """
        # Not `asyncio.wait`, which takes three times as long to do the same for one task.
        end = asyncio.get_running_loop().create_future()
        self._waiters[end] = None
        try:
            if not self._task.done():
                await end
        finally:
            del self._waiters[end]
            if not self._waiters and not self._task.done():
                self._on_done()
                self._task.cancel()
        error = None if self._task.cancelled() else self._task.exception()
        if error is not None:
            raise copy_without_traceback(error) from error.__cause__
        return self._task.result()

    def _wake_waiters(self, task: asyncio.Task[T]) -> None:
        """Take note of the end; a failure that nobody waits for any more is no news to asyncio."""
        if not task.cancelled():
            task.exception()
        for end in self._waiters:
            if not end.done():
                end.set_result(None)
        self._on_done()


def copy_without_traceback(error: BaseException) -> BaseException:
    """A copy of `error` without its traceback."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    return twin
