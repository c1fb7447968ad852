"""Bounds what the mounts of one tenant fetch and hold in memory.

1. The objects of one volume are counted while they are fetched, so that a mount that is too large
   ends early. `FileLimit` counts the files that are made from them.
2. At most `MAX_CONCURRENT_MOUNTS` mounts of one tenant run at once; others of the same tenant wait
   in order.
3. What these mounts have received from vaults, finished or not, is bounded for each tenant.

So a tenant can use up neither the memory of the process nor the turn of other tenants.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from keyferry.content import DEFAULT_MAX_BYTES, SIZE_REMEDY, FileLimit
from keyferry.errors import MountLimitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

T = TypeVar("T")

MAX_CONCURRENT_MOUNTS = 16
"""Mounts of one tenant that run at once."""

_RESPONSE_FACTOR = 4
"""Responses are larger than the files: they are encoded, and a file may be one key of many."""
_SLACK_BYTES = 1024 * 1024
"""One response of maximum size, which a small volume may be made from."""
_TENANT_BYTES = 16 * 1024 * 1024
"""Responses of one tenant, in addition to those of one volume."""
_SHARED_TRIES = 3
"""Requests of other mounts that one mount joins before it sends its own."""


class MountLimits:
    """The limits of the mounts of one process.

    Args:
        max_bytes: the maximum size of the files of one volume.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._tenants: dict[str, _Tenant] = {}

    @asynccontextmanager
    async def mounting(self, tenant: str) -> AsyncIterator[MountBudget]:
        """Wait for a turn of `tenant`, and yield the budget of one mount.

        Args:
            tenant: the namespace of the pod.
        """
        entry = self._tenants.setdefault(tenant, _Tenant(tenant, self._max_bytes))
        entry.mounts += 1
        try:
            async with entry.turns:
                budget = MountBudget(entry, self._max_bytes)
                try:
                    yield budget
                finally:
                    budget.close()
        finally:
            entry.mounts -= 1
            if not entry.mounts:
                del self._tenants[tenant]

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants with a mount that runs or waits."""
        return frozenset(self._tenants)


class _Held(Struct):
    """A response that mounts of one tenant hold; all of them hold the same object."""

    size: int
    mounts: int = 0


class _Tenant:
    """The mounts of one tenant that run or wait.

    Args:
        name: the namespace.
        max_bytes: the maximum size of the files of one volume.
    """

    def __init__(self, name: str, max_bytes: int) -> None:
        self.mounts = 0
        self.turns = asyncio.Semaphore(MAX_CONCURRENT_MOUNTS)
        self._name = name
        self._limit = _RESPONSE_FACTOR * max_bytes + _TENANT_BYTES
        self._bytes = 0
        self._held: dict[int, _Held] = {}

    @property
    def is_crowded(self) -> bool:
        """Whether most of the bytes are used, so that a further request would hardly succeed."""
        return self._bytes > self._limit // 2

    def add(self, count: int) -> None:
        """Count bytes that are held.

        Raises:
            MountLimitError: there are too many; they are not counted.
        """
        if self._bytes + count > self._limit:
            raise MountLimitError(
                f"the concurrent mounts of namespace {self._name!r} hold more than {self._limit}"
                " bytes of responses",
                "No action is needed if they succeed later: kubelet retries them. Otherwise use"
                " smaller objects, or split the SecretProviderClasses.",
            )
        self._bytes += count

    def remove(self, count: int) -> None:
        """Count bytes that are no longer held."""
        self._bytes -= count

    def hold(self, key: int, size: int) -> None:
        """Count a response once, however many mounts hold it; `key` is its identity.

        Raises:
            MountLimitError: the tenant holds too much.
        """
        if key not in self._held:
            self.add(size)
            self._held[key] = _Held(size)
        self._held[key].mounts += 1

    def release(self, key: int) -> None:
        """Undo `hold`."""
        held = self._held[key]
        held.mounts -= 1
        if not held.mounts:
            del self._held[key]
            self.remove(held.size)


class MountBudget:
    """What one mount may still receive.

    Args:
        tenant: the tenant of the mount.
        max_bytes: the maximum size of the files of the volume.
    """

    def __init__(self, tenant: _Tenant, max_bytes: int) -> None:
        self._tenant = tenant
        self._max_bytes = max_bytes
        self._received = 0
        self._held: dict[int, object] = {}
        self._exceeded = False

    async def fetch(self, fetch: Callable[[], Awaitable[T]]) -> T:
        """Call `fetch`, which may share a request with other mounts, and return its result.

        If another mount reaches its limits during the request, `fetch` is called again.

        Raises:
            MountLimitError: this mount or its tenant has reached its limits.
        """
        for _ in range(_SHARED_TRIES):
            try:
                return await fetch()
            except MountLimitError:
                if self._exceeded or self._tenant.is_crowded:
                    raise
        return await fetch()

    @contextmanager
    def receiving(self) -> Iterator[Callable[[int], None]]:
        """Count one response while it arrives.

        Yields:
            A function to call with the number of further bytes. It raises `MountLimitError` when
            the tenant holds too many. They no longer count after the block.
        """
        received = 0

        def count(more: int) -> None:
            nonlocal received
            try:
                self._tenant.add(more)
            except MountLimitError:
                self._exceeded = True
                raise
            received += more

        try:
            yield count
        finally:
            self._tenant.remove(received)

    def keep(self, response: object, *, content_bytes: int, memory_bytes: int) -> None:
        """Count a parsed response, which the mount holds until it has ended.

        Args:
            response: the response. Mounts may share it, also with the cache.
            content_bytes: the size of its content.
            memory_bytes: the memory that it takes.

        Raises:
            MountLimitError: the volume is too large, or the tenant holds too much.
        """
        self._received += content_bytes
        if self._received > _RESPONSE_FACTOR * self._max_bytes + _SLACK_BYTES:
            self._exceeded = True
            raise MountLimitError(
                f"the volume is too large: the objects that were fetched so far have"
                f" {self._received} bytes, and --max-call-recv-msg-size limits a volume to"
                f" {self._max_bytes} bytes",
                SIZE_REMEDY,
            )
        if id(response) not in self._held:
            self._tenant.hold(id(response), memory_bytes)
            self._held[id(response)] = response

    def file_limit(self) -> FileLimit:
        """Return the limit of the files of the volume."""
        return FileLimit(self._max_bytes)

    def close(self) -> None:
        """Release what the mount held."""
        for key in self._held:
            self._tenant.release(key)
        self._held.clear()
