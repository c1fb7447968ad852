"""Threads for the blocking calls of tenants, of which no tenant gets all."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from keyferry.aio.tasks import shielded

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class TenantThreads:
    """Threads for blocking calls that tenants cause, apart from the threads of all other work.

    A call that never returns keeps its thread, and with it one place of its tenant. The threads do
    not keep the process from exiting.

    Args:
        name: name of the threads.
        max_threads: maximum number of threads.
        max_per_tenant: maximum number of threads of one tenant.
    """

    def __init__(self, name: str, *, max_threads: int, max_per_tenant: int) -> None:
        self._name = name
        self._max_per_tenant = max_per_tenant
        self._places = asyncio.Semaphore(max_threads)
        self._places_of: dict[str, asyncio.Semaphore] = {}
        self._calls_of: dict[str, int] = {}

    async def run(self, tenant: str, function: Callable[[], T]) -> T:
        """Call `function` on a thread and return its result, or raise its exception.

        A cancelled caller leaves at once, but its places are free only when the thread has
        finished.

        Args:
            tenant: the tenant that the call is for.
            function: the call.
        """
        # Shielded, so that a place is taken as long as the thread runs.
        call = asyncio.ensure_future(self._run(tenant, function))
        return await shielded(call)

    async def _run(self, tenant: str, function: Callable[[], T]) -> T:
        places = self._places_of.setdefault(tenant, asyncio.Semaphore(self._max_per_tenant))
        self._calls_of[tenant] = self._calls_of.get(tenant, 0) + 1
        try:
            async with places, self._places:
                return await self._start(function)
        finally:
            self._calls_of[tenant] -= 1
            if not self._calls_of[tenant]:
                del self._calls_of[tenant], self._places_of[tenant]

    def _start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        work: asyncio.Future[T] = loop.create_future()

        def call() -> None:
            try:
                finish = partial(_set_result, work, function())
            except Exception as error:  # noqa: BLE001 - the caller gets it
                finish = partial(_set_exception, work, error)
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(finish)

        threading.Thread(target=call, name=self._name, daemon=True).start()
        return work


def _set_result(work: asyncio.Future[T], result: T) -> None:
    if not work.done():
        work.set_result(result)


def _set_exception(work: asyncio.Future[T], error: Exception) -> None:
    if not work.done():
        work.set_exception(error)
