"""Reads facts at most once per interval, however many visitors there are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from keyferry.aio.single_flight import SharedCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

KEEP_SECONDS = 10.0
"""How long facts are shown before they are read again."""


class Snapshot(Generic[T]):
    """The result of `read`, kept for a while; then its memory is released.

    Concurrent visitors share one read. An error is not kept.

    Args:
        read: reads it.
        keep_seconds: how long it is kept.
    """

    def __init__(
        self, read: Callable[[], Awaitable[T]], *, keep_seconds: float = KEEP_SECONDS
    ) -> None:
        self._read = read
        self._keep_seconds = keep_seconds
        self._call: SharedCall[T] | None = None
        self._kept: list[T] = []

    async def get(self) -> T:
        """Return the kept result, or read it.

        Raises:
            Exception: what `read` raised.
        """
        if self._kept:
            return self._kept[0]
        if self._call is None:
            self._call = SharedCall(self._read_once(), self._end)
        return await self._call.wait()

    async def _read_once(self) -> T:
        found = await self._read()
        self._kept = [found]
        asyncio.get_running_loop().call_later(self._keep_seconds, self._kept.clear)
        return found

    def _end(self) -> None:
        self._call = None
