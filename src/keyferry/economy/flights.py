"""Single flight: whoever asks for what is already being asked for waits for that answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


class Flight(Generic[T]):
    """One call and those who wait for it.

    Args:
        work: the call.
        landed: told once, when the call is over or was given up.
    """

    def __init__(self, work: Coroutine[Any, Any, T], landed: Callable[[], None]) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}  # in the order in which they came
        self._landed = landed
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._heed)

    async def wait(self) -> T:
        """The result of the call.

        Who is cancelled here leaves the call to the others; the last one takes it along.

        Raises:
            Exception: what the call raised, as a copy for each who waits: a traceback is the story
                of one of them.
        """
        # Not `asyncio.wait`, which takes three times as long to do the same for one task.
        end = asyncio.get_running_loop().create_future()
        self._waiting[end] = None
        try:
            if not self._task.done():
                await end
        finally:
            del self._waiting[end]
            if not self._waiting and not self._task.done():
                self._landed()
                self._task.cancel()
        error = None if self._task.cancelled() else self._task.exception()
        if error is not None:
            raise fresh(error) from error.__cause__
        return self._task.result()

    def _heed(self, task: asyncio.Task[T]) -> None:
        """Take note of the end; a failure that nobody waits for any more is no news to asyncio."""
        if not task.cancelled():
            task.exception()
        for end in self._waiting:
            if not end.done():
                end.set_result(None)
        self._landed()


def fresh(error: BaseException) -> BaseException:
    """A copy of `error` without its traceback."""
    twin = type(error).__new__(type(error), *error.args)
    twin.__dict__.update(error.__dict__)
    return twin
