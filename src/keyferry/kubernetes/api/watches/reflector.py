"""List-and-watch cache of one resource of the Kubernetes API, as the reflector of client-go.

`run` survives every failure of the API; `_follow` reads one stream. A watch resumes from the last
resourceVersion that the API server reported, with an object or with a bookmark. Objects are listed
again only if the server no longer has the changes since then.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, assert_never

from keyferry.errors import StoreError, StoreUnavailableError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.api_errors import ApiBusyError, ApiNotFoundError, ApiStatusError
from keyferry.kubernetes.api.watches.changes import (
    ANY_VERSION,
    LATEST_VERSION,
    Began,
    Changed,
    Expired,
    ListFirst,
    Progress,
    Removed,
    Resume,
)
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from keyferry.kubernetes.api.watches.changes import Change, WatchStart
    from keyferry.kubernetes.object_codec import Manifest

T = TypeVar("T")
NamespacedName = tuple[str, str]
"""Namespace and name."""

MAX_BACKOFF_SECONDS = 30.0
SHORT_SECONDS = 1.0
"""A stream that ended sooner, with nothing in it, counts as a failure."""
_TOO_MANY_REQUESTS = 429
_VERSION_UNAVAILABLE = {410, 504}
"""How the API server answers a list that may not be older than a resourceVersion it does not have:
etcd was restored from a backup, or this server lags behind another one."""

_log = get_logger("reflector")


class ListWatcher(Protocol):
    """Lists and watches one selection of objects."""

    def watch(self, start: WatchStart) -> AsyncGenerator[Change, None]:
        """Yield all objects, if `start` wants them, and then changes.

        The server may end the stream at any time.

        Raises:
            StoreError: the API is unavailable or refuses the request.
        """


def api_backoff(failures: int) -> float:
    """Return the seconds to wait after `failures` failed calls in a row, at most 30.

    Exponential with full jitter: after an outage of the API server, all nodes of a cluster retry.
    """
    longest = min(MAX_BACKOFF_SECONDS, 2.0 ** min(failures, 6))
    return random.uniform(0.0, longest)  # noqa: S311 - no secret


class Reflector(Generic[T]):
    """List-and-watch cache of `parse(object)` for one resource.

    It keeps its last state while the API is unavailable.

    Args:
        list_watcher: lists and watches the resource.
        parse: converts a manifest to the cached object; None drops it.
        name: name of the resource, for the log.
        backoff: returns the seconds to wait after `n` consecutive failures.
        absent_seconds: for a resource that the cluster may lack: there are no objects then, and it
            is looked for again after this time. None: its absence is a failure.
    """

    def __init__(
        self,
        list_watcher: ListWatcher,
        parse: Callable[[Manifest], T | None],
        *,
        name: str,
        backoff: Callable[[int], float] = api_backoff,
        absent_seconds: float | None = None,
    ) -> None:
        self._list_watcher = list_watcher
        self._parse = parse
        self.name = name
        self._backoff = backoff
        self._absent_seconds = absent_seconds
        self._objects: dict[NamespacedName, T] = {}
        self._start: WatchStart = ListFirst(ANY_VERSION)
        self._listed: dict[NamespacedName, T | None] | None = None
        """What was reported of a list that is not complete."""
        self._failures = 0
        self._has_waited = False
        """Whether the API server asked to wait, which is only reported if it happens again."""
        self._opened_at: float | None = None
        """When the API server accepted the current stream, in monotonic seconds."""
        self.in_sync = asyncio.Event()
        """Set while the watch is running."""
        self.has_tried = asyncio.Event()
        """Set after the first list or its failure."""
        self.failure: StoreError | None = None
        """Why the last request failed; None since the API responds."""
        self.is_absent = False
        """Whether the cluster lacks the resource."""
        self.has_synced = False
        """Whether the cache has been complete once."""
        self.on_change: list[Callable[[T | None, T | None], None]] = []
        """Called with the previous and the new parsed object; None if it does not exist."""
        self.on_sync: list[Callable[[], None]] = []
        """Called after each complete list, and when the watch resumes after failures."""

    @property
    def is_recovering(self) -> bool:
        """Whether the last calls failed."""
        return self._failures > 0

    def get(self, namespace: str, name: str) -> T | None:
        """Return the parsed object, or None."""
        return self._objects.get((namespace, name))

    def upsert(self, manifest: Manifest) -> None:
        """Store `manifest`, the response to a write, before the watch reports it."""
        self._set(_key(manifest), self._parse(manifest))

    def seed(self, manifest: Manifest) -> None:
        """Store `manifest`, the response to a read, until the first list.

        So the list shows whether the object has changed since the read. Later, the cache may be
        newer than the response.
        """
        if not self.has_synced:
            self.upsert(manifest)

    def amend(self, namespace: str, name: str, change: Callable[[T], T]) -> None:
        """Replace a cached object by what `change` returns; no-op if it is not cached."""
        if (found := self.get(namespace, name)) is not None:
            self._set((namespace, name), change(found))

    def items(self) -> list[T]:
        """Return all parsed objects."""
        return list(self._objects.values())

    def _set(self, key: NamespacedName, after: T | None) -> None:
        before = self._objects.pop(key, None)
        if after is not None:
            self._objects[key] = after
        if before != after:
            for notify in self.on_change:
                notify(before, after)

    async def run(self) -> None:
        """List and watch until cancelled; retries failures with backoff."""
        while True:
            try:
                await self._run_stream()
            except ApiNotFoundError as error:
                self._start = ListFirst(LATEST_VERSION)
                if self._absent_seconds is None:
                    await self._wait_after(error)
                else:
                    self._set_absent()
                    await asyncio.sleep(self._absent_seconds)
            except StoreError as error:
                self._start = _start_after(error, self._start)
                await self._wait_after(error)

    async def _run_stream(self) -> None:
        """Follow one stream; wait if it was too short."""
        self._opened_at = None
        try:
            has_received = await self._follow(self._start)
        finally:
            if self._was_long():
                self._failures = 0
        if not has_received and not self._was_long():
            await asyncio.sleep(self._backoff(self._failures))
            self._failures += 1

    def _was_long(self) -> bool:
        """Whether the current stream lasted long enough to count as a success."""
        now = asyncio.get_running_loop().time()
        return self._opened_at is not None and now - self._opened_at >= SHORT_SECONDS

    async def _wait_after(self, error: StoreError) -> None:
        is_first = self._failures == 0 or self.in_sync.is_set()
        if is_first and _asks_to_wait(error):
            # As after the creation of a CRD, until the API server has read its objects.
            _log.info("the API server asks to wait before a watch", what=self.name)
            self._has_waited = True
        elif is_first or self._has_waited:
            _log.warning("watch failed, using cached objects", what=self.name, error=str(error))
            self._has_waited = False
        self.failure = error
        self.in_sync.clear()
        self.has_tried.set()
        await asyncio.sleep(_requested_wait(error) + self._backoff(self._failures))
        self._failures += 1

    def _set_absent(self) -> None:
        """The cluster lacks the resource, so no object of it exists."""
        if not self.is_absent:
            _log.info("the cluster lacks a resource, looking for it", what=self.name)
        self.is_absent = True
        self._replace({})

    def _replace(self, objects: Mapping[NamespacedName, T | None]) -> None:
        """Take over the result of a complete list."""
        for key in self._objects.keys() - objects.keys():
            self._set(key, None)
        for key, value in objects.items():
            self._set(key, value)
        self.in_sync.set()
        self.has_tried.set()
        self.has_synced = True

    def _synced(self, objects: Mapping[NamespacedName, T | None]) -> None:
        log = _log.debug if self.has_synced and not self._failures else _log.info
        self.is_absent = False
        self._replace(objects)
        self._notify_sync()
        log("cache synced", what=self.name, objects=len(self._objects))

    def _notify_sync(self) -> None:
        for notify in self.on_sync:
            notify()

    async def _follow(self, start: WatchStart) -> bool:
        """Follow one stream until it ends. Returns whether it reported anything."""
        self._listed = {} if isinstance(start, ListFirst) else None
        has_received = False
        async with aclosing(self._list_watcher.watch(start)) as changes:
            async for change in changes:
                match change:
                    case Began():
                        self._began()
                    case Changed(manifest):
                        self._take(manifest, self._parse(manifest))
                    case Removed(manifest):
                        self._take(manifest, None)
                    case Progress(version, ends_list=ends_list):
                        self._progressed(version, ends_list=ends_list)
                    case Expired():
                        self._start = ListFirst(_version_of(self._start))
                        break
                    case _:
                        assert_never(change)
                has_received = has_received or not isinstance(change, Began | Progress)
        return has_received

    def _began(self) -> None:
        """The API server accepted the request."""
        is_first = self._opened_at is None
        self._opened_at = asyncio.get_running_loop().time()
        self.failure = None
        if self._listed is not None:
            self._listed.clear()
            return
        self.in_sync.set()
        if self.is_recovering and is_first:
            self._notify_sync()

    def _take(self, manifest: Manifest, value: T | None) -> None:
        """Store an object, or remove it if `value` is None; while listing, remember it."""
        if self._listed is not None:
            self._listed[_key(manifest)] = value
            return
        self._set(_key(manifest), value)
        if version := _resource_version(manifest):
            self._start = Resume(version)

    def _progressed(self, version: str, *, ends_list: bool) -> None:
        if ends_list and self._listed is not None:
            listed, self._listed = self._listed, None
            self._synced(listed)
        if self._listed is None and version:
            self._start = Resume(version)


def _version_of(start: WatchStart) -> str:
    return start.version if isinstance(start, Resume) else start.not_older_than


def _asks_to_wait(error: StoreError) -> bool:
    return isinstance(error, ApiBusyError) and error.http_status == _TOO_MANY_REQUESTS


def _requested_wait(error: StoreError) -> float:
    """Return the seconds that the API server asks to wait, at most 30."""
    asked = error.retry_after if isinstance(error, ApiStatusError) else 0.0
    return min(asked, MAX_BACKOFF_SECONDS)


def _start_after(error: StoreError, start: WatchStart) -> WatchStart:
    """Return where to start after a failure.

    1. The server does not have the version of a list: list the latest state.
    2. The API is unavailable: the same again.
    3. Other refusals, such as a missing permission: list when it is granted.
    """
    if isinstance(start, ListFirst):
        if isinstance(error, ApiStatusError) and error.http_status in _VERSION_UNAVAILABLE:
            return ListFirst(LATEST_VERSION)
        return start
    if isinstance(error, StoreUnavailableError):
        return start
    return ListFirst(start.version)


def _key(manifest: Manifest) -> NamespacedName:
    return _metadata_text(manifest, "namespace"), _metadata_text(manifest, "name")


def _resource_version(manifest: Manifest) -> str:
    return _metadata_text(manifest, "resourceVersion")


def _metadata_text(manifest: Manifest, field: str) -> str:
    try:
        return Field(manifest)["metadata"][field].text()
    except FieldTypeError:
        return ""
