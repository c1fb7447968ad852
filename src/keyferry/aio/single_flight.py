"""Single flight: concurrent callers of the same work share one call and its result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class SharedCall(Generic[T]):
    """One call, and the callers that wait for it.

    Args:
        work: the call.
        on_done: called once, when the call has ended or was canceled.
    """

    def __init__(self, work: Coroutine[Any, Any, T], on_done: Callable[[], None]) -> None:
        self._waiters: dict[asyncio.Future[None], None] = {}  # in the order of their arrival
        self._on_done = on_done
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._wake_waiters)

    async def wait(self) -> T:
        """Return the result of the call.

        A caller that is canceled leaves the call to the others; the last one cancels the call.

        Raises:
            Exception: what the call raised. Each caller gets its own copy, because a traceback
                belongs to one caller.
        """
        # Not `asyncio.wait`, which takes three times as long for one task.
        done = asyncio.get_running_loop().create_future()
        self._waiters[done] = None
        try:
            if not self._task.done():
                await done
        finally:
            del self._waiters[done]
            if not self._waiters and not self._task.done():
                self._notify_done()
                self._task.cancel()
        error = None if self._task.cancelled() else self._task.exception()
        if error is not None:
            raise copy_without_traceback(error) from error.__cause__
        return self._task.result()

    def _wake_waiters(self, task: asyncio.Task[T]) -> None:
        # Reading the error marks it as retrieved, so that asyncio does not log it.
        if not task.cancelled() and (error := task.exception()):
            # Each caller gets a copy. The frames of the call may hold a response of a megabyte.
            error.__traceback__ = None
        for done in self._waiters:
            if not done.done():
                done.set_result(None)
        self._notify_done()

    def _notify_done(self) -> None:
        # Once. `on_done` usually refers to this object; without the reference back, the result is
        # freed with its last user, and not only when the garbage collector runs.
        on_done, self._on_done = self._on_done, _nothing
        on_done()


def _nothing() -> None:
    """Notify nobody a second time."""


def copy_without_traceback(error: E) -> E:
    """Return a copy of `error` without its traceback."""
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy
