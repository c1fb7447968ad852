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
class Listing:
    """A consistent list of all objects.

    Attributes:
        manifests: the objects.
        resource_version: from which a watch continues.
    """

    manifests: tuple[Manifest, ...]
    resource_version: str


class ListWatcher(Protocol):
    """Lists and watches one selection of objects. Both methods may raise `StoreError`."""

    async def list(self) -> Listing:
        """Return all objects."""

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
    """

    def __init__(
        self,
        list_watcher: ListWatcher,
        parse: Callable[[Manifest], T | None],
        *,
        name: str,
        backoff: Callable[[int], float] = api_backoff,
    ) -> None:
        self._list_watcher = list_watcher
        self._parse = parse
        self.name = name
        self._backoff = backoff
        self._objects: dict[NamespacedName, T] = {}
        self._failures = 0
        self.in_sync = asyncio.Event()
        """Set while the watch is running."""
        self.has_synced = False
        """Whether the cache has been complete once."""
        self.on_change: list[Callable[[T | None, T | None], None]] = []
        """Called with the previous and the new parsed object; None if it does not exist."""
        self.on_sync: list[Callable[[], None]] = []
        """Called after each complete list."""

    def get(self, namespace: str, name: str) -> T | None:
        """Return the parsed object, or None."""
        return self._objects.get((namespace, name))

    def upsert(self, manifest: Manifest) -> None:
        """Store `manifest`, the response to a write, before the watch reports it."""
        self._set(_key(manifest), self._parse(manifest))

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
            except StoreError as error:
                if self._failures == 0 or self.in_sync.is_set():
                    _log.warning(
                        "watch failed, using cached objects", what=self.name, error=str(error)
                    )
                self.in_sync.clear()
                await asyncio.sleep(self._backoff(self._failures))
                self._failures += 1

    async def _list_and_watch(self) -> None:
        listing = await self._list_watcher.list()
        for key in self._objects.keys() - {_key(manifest) for manifest in listing.manifests}:
            self._set(key, None)
        for manifest in listing.manifests:
            self.upsert(manifest)
        log = _log.debug if self.has_synced and not self._failures else _log.info
        self.in_sync.set()
        self.has_synced = True
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
