"""Reflectors of the namespaces that a node uses, and of no others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from keyferry.aio.tasks import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyferry.kubernetes.api.watches.reflector import Reflector

T = TypeVar("T")

LINGER_SECONDS = 600.0
"""How long a namespace is watched after its last use: its pods may come back, and its pod statuses
are deleted after their pods."""


class NamespacedReflectors(Generic[T]):
    """One reflector for each namespace in use.

    Args:
        new_reflector: returns the reflector of a namespace.
        linger_seconds: how long a reflector runs after the last use of its namespace.
    """

    def __init__(
        self,
        new_reflector: Callable[[str], Reflector[T]],
        *,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._new_reflector = new_reflector
        self._linger_seconds = linger_seconds
        self._running: dict[str, tuple[Reflector[T], asyncio.Task[None]]] = {}
        self._used: frozenset[str] = frozenset()
        self._closings: dict[str, asyncio.TimerHandle] = {}

    def __iter__(self) -> Iterator[Reflector[T]]:
        """Yield the running reflectors."""
        return iter([reflector for reflector, _ in self._running.values()])

    def find(self, namespace: str) -> Reflector[T] | None:
        """Return the reflector of a namespace, or None."""
        return self._running[namespace][0] if namespace in self._running else None

    def get(self, namespace: str, name: str) -> T | None:
        """Return a cached object, or None."""
        reflector = self.find(namespace)
        return None if reflector is None else reflector.get(namespace, name)

    def items(self) -> list[T]:
        """Return all cached objects."""
        return [value for reflector in self for value in reflector.items()]

    def use(self, namespaces: frozenset[str]) -> None:
        """Watch these namespaces until the next call; others end later."""
        for namespace in self._used - namespaces:
            self._close_later(namespace)
        self._used = namespaces
        for namespace in sorted(namespaces):
            self._open(namespace)

    def touch(self, namespace: str) -> Reflector[T]:
        """Watch a namespace for some time, whether it is in use or not; return its reflector."""
        reflector = self._open(namespace)
        if namespace not in self._used:
            self._close_later(namespace)
        return reflector

    async def wait_synced(self) -> None:
        """Wait until every running reflector is in sync."""
        while waiting := [each for each in self if not each.in_sync.is_set()]:
            # The namespace may be closed meanwhile.
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await waiting[0].in_sync.wait()

    async def stop(self) -> None:
        """Stop all reflectors."""
        for handle in self._closings.values():
            handle.cancel()
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self, namespace: str) -> Reflector[T]:
        if (closing := self._closings.pop(namespace, None)) is not None:
            closing.cancel()
        if namespace not in self._running:
            reflector = self._new_reflector(namespace)
            task = spawn(reflector.run(), name=f"watch {reflector.name}")
            self._running[namespace] = (reflector, task)
        return self._running[namespace][0]

    def _close_later(self, namespace: str) -> None:
        loop = asyncio.get_running_loop()
        self._closings[namespace] = loop.call_later(self._linger_seconds, self._close, namespace)

    def _close(self, namespace: str) -> None:
        """End a watch. Nothing was deleted, so nobody is notified."""
        del self._closings[namespace]
        self._running.pop(namespace)[1].cancel()
