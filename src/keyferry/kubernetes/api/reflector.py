"""List-and-watch cache of one resource of the Kubernetes API, as the reflector of client-go.

There are three loops: `run` survives every failure of the API, `_list_and_watch` lists and then
watches until its resourceVersion expires, and `_watch` follows one stream.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, assert_never

from keyferry.aio.backoff import exponential_backoff
from keyferry.errors import StoreError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.api_errors import ApiNotFoundError
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from keyferry.kubernetes.object_codec import Manifest

T = TypeVar("T")
NamespacedName = tuple[str, str]
"""Namespace and name."""

_log = get_logger("reflector")


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was created or changed; it is now `manifest`."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Removed:
    """An object was deleted; `manifest` is its last state."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Expired:
    """The watch cannot be resumed; list again."""


Change = Changed | Removed | Expired


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A consistent list of all objects.

    Attributes:
        objects: the parsed objects.
        resource_version: from which a watch continues.
    """

    objects: tuple[T, ...]
    resource_version: str


@dataclass(frozen=True, slots=True)
class _Parsed(Generic[T]):
    key: NamespacedName
    value: T | None


class ListWatcher(Protocol):
    """Lists and watches one selection of objects. Both methods may raise `StoreError`."""

    async def list(self, parse: Callable[[Manifest], T]) -> Listing[T]:
        """Return all objects, each parsed as soon as it is fetched: their manifests are large."""

    def watch(self, resource_version: str) -> AsyncGenerator[Change, None]:
        """Yield the changes after `resource_version`; the server may end the stream at any time."""


def api_backoff(failures: int) -> float:
    """Return the seconds to wait after `failures` failed calls in a row, at most 30."""
    return exponential_backoff(failures, max_seconds=30.0)


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
        self._failures = 0
        self.in_sync = asyncio.Event()
        """Set while the watch is running."""
        self.has_tried = asyncio.Event()
        """Set after the first list or its failure."""
        self.is_absent = False
        """Whether the cluster lacks the resource."""
        self.has_synced = False
        """Whether the cache has been complete once."""
        self.on_change: list[Callable[[T | None, T | None], None]] = []
        """Called with the previous and the new parsed object; None if it does not exist."""
        self.on_sync: list[Callable[[], None]] = []
        """Called after each complete list."""

    @property
    def is_recovering(self) -> bool:
        """Whether calls failed before the last list."""
        return self._failures > 0

    def get(self, namespace: str, name: str) -> T | None:
        """Return the parsed object, or None."""
        return self._objects.get((namespace, name))

    def upsert(self, manifest: Manifest) -> None:
        """Store `manifest`, the response to a write, before the watch reports it."""
        self._set(_key(manifest), self._parse(manifest))

    def _parse_one(self, manifest: Manifest) -> _Parsed[T]:
        return _Parsed(_key(manifest), self._parse(manifest))

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
                await self._list_and_watch()
            except ApiNotFoundError as error:
                if self._absent_seconds is None:
                    await self._wait_after(error)
                else:
                    self._set_absent()
                    await asyncio.sleep(self._absent_seconds)
            except StoreError as error:
                await self._wait_after(error)

    async def _wait_after(self, error: StoreError) -> None:
        if self._failures == 0 or self.in_sync.is_set():
            _log.warning("watch failed, using cached objects", what=self.name, error=str(error))
        self.in_sync.clear()
        self.has_tried.set()
        await asyncio.sleep(self._backoff(self._failures))
        self._failures += 1

    def _set_absent(self) -> None:
        """The cluster lacks the resource, so no object of it exists."""
        if not self.is_absent:
            _log.info("the cluster lacks a resource, looking for it", what=self.name)
        self.is_absent = True
        self._synced(())

    def _synced(self, objects: tuple[_Parsed[T], ...]) -> None:
        """Take over the result of a complete list."""
        for key in self._objects.keys() - {each.key for each in objects}:
            self._set(key, None)
        for each in objects:
            self._set(each.key, each.value)
        self.in_sync.set()
        self.has_tried.set()
        self.has_synced = True

    async def _list_and_watch(self) -> None:
        listing = await self._list_watcher.list(self._parse_one)
        log = _log.debug if self.has_synced and not self._failures else _log.info
        self.is_absent = False
        self._synced(listing.objects)
        for notify in self.on_sync:
            notify()
        log("cache synced", what=self.name, objects=len(self._objects))
        version: str | None = listing.resource_version
        while version is not None:
            version = await self._watch(version)

    async def _watch(self, resource_version: str) -> str | None:
        """Follow one stream. Returns the last resourceVersion, or None if it has expired."""
        async with aclosing(self._list_watcher.watch(resource_version)) as changes:
            async for change in changes:
                self._failures = 0
                match change:
                    case Changed(manifest):
                        self.upsert(manifest)
                    case Removed(manifest):
                        self._set(_key(manifest), None)
                    case Expired():
                        return None
                    case _:
                        assert_never(change)
                resource_version = _resource_version(manifest) or resource_version
        self._failures = 0
        return resource_version


def _key(manifest: Manifest) -> NamespacedName:
    return _metadata_text(manifest, "namespace"), _metadata_text(manifest, "name")


def _resource_version(manifest: Manifest) -> str:
    return _metadata_text(manifest, "resourceVersion")


def _metadata_text(manifest: Manifest, field: str) -> str:
    try:
        return Field(manifest)["metadata"][field].text()
    except FieldTypeError:
        return ""
