"""Records every version of objects of the Kubernetes API, and waits for changes.

async with recording(client, "Secret", "Event") as recorder:
    await recorder.until(lambda: recorder.latest("Secret", "shop", "db"), "the Secret")
    versions = recorder.versions("Secret", "shop", "db")
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import aiohttp

from tests.e2e.cluster.api_client import ApiClient
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.waiting import PATIENCE_SECONDS

T = TypeVar("T")

_RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class Seen:
    """One version of an object.

    Attributes:
        change: ADDED, MODIFIED or DELETED.
        object: the object; in the case of DELETED its last state.
        at: when it was seen, in monotonic seconds.
    """

    change: str
    object: Document
    at: float


class Recorder:
    """The versions of all objects of some kinds, in all namespaces.

    If the API server was unavailable, versions that were replaced meanwhile are missing.

    Args:
        client: calls the API.
        kinds: the recorded kinds.
    """

    def __init__(self, client: ApiClient, *kinds: str) -> None:
        self._client = client
        self._seen: dict[tuple[str, str, str], list[Seen]] = defaultdict(list)
        self._changed = asyncio.Condition()
        self._synced: set[str] = set()
        self._kinds = kinds

    # --- objects ---------------------------------------------------------------------------------

    def latest(self, kind: str, namespace: str, name: str) -> Document | None:
        """Return an object, or None if it does not exist."""
        seen = self._seen.get((kind, namespace, name))
        return seen[-1].object if seen and seen[-1].change != "DELETED" else None

    def versions(self, kind: str, namespace: str, name: str) -> list[Seen]:
        """Return the versions of an object, and its deletions."""
        return list(self._seen.get((kind, namespace, name), ()))

    def existing(self, kind: str, namespace: str = "") -> list[Document]:
        """Return the existing objects of a kind, in a namespace or in all of them."""
        return [
            seen[-1].object
            for (each, where, _), seen in self._seen.items()
            if each == kind and namespace in {"", where} and seen[-1].change != "DELETED"
        ]

    def everything(self, *kinds: str) -> Iterable[Document]:
        """Yield all versions of all objects of these kinds."""
        for (kind, _, _), seen in self._seen.items():
            if kind in kinds:
                yield from (each.object for each in seen)

    # --- waiting ---------------------------------------------------------------------------------

    async def until(
        self, look: Callable[[], T | None], what: str, *, seconds: float = PATIENCE_SECONDS
    ) -> T:
        """Call `look` after each change until it returns a result; return that.

        Args:
            look: returns None or raises AssertionError while there is no result.
            what: the condition, for the message.
            seconds: the timeout.

        Raises:
            AssertionError: the timeout expired; the message contains the last error.
        """
        last: AssertionError | None = None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if (result := look()) is not None:
                    return result
            except AssertionError as error:
                last = error
            async with self._changed:
                try:
                    async with asyncio.timeout(1.0):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        raise AssertionError(f"timeout after {seconds:.0f} seconds waiting for {what}: {last}")

    async def saw(self, *written: Document) -> None:
        """Wait until these versions, which a request returned, or later ones are recorded."""
        known = [each for each in written if each["kind"] in self._kinds]
        await self.until(lambda: all(map(self._has, known)) or None, "the effect of a request")

    async def saw_deletion(self, kind: str, namespace: str, name: str, *, after: int) -> None:
        """Wait until the deletion of an object is recorded.

        Args:
            kind: of the object.
            namespace: of the object.
            name: of the object.
            after: how many versions were recorded before the request.
        """

        def look() -> bool | None:
            seen = self.versions(kind, namespace, name)[after:]
            return any("DELETED" == each.change for each in seen) or None

        if kind in self._kinds:
            await self.until(look, f"the deletion of {kind} {name}")

    def _has(self, written: Document) -> bool:
        metadata = written["metadata"]
        seen = self.versions(written["kind"], metadata["namespace"], metadata["name"])
        version = int(metadata["resourceVersion"])
        return any(int(each.object["metadata"]["resourceVersion"]) >= version for each in seen)

    # --- recording -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Record until cancelled."""
        await asyncio.gather(*(self._record(kind) for kind in self._kinds))

    async def synced(self) -> None:
        """Wait until all kinds were listed."""
        await self.until(lambda: self._synced.issuperset(self._kinds) or None, "the first lists")

    async def _record(self, kind: str) -> None:
        while True:
            try:
                version = await self._list(kind)
                async for event in self._client.watch(kind, version):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] != "BOOKMARK":
                        await self._add(kind, event["type"], event["object"])
            except (AssertionError, aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(_RETRY_SECONDS)

    async def _list(self, kind: str) -> str:
        answer = await self._client.call("GET", self._client.url(kind))
        api = {"kind": kind, "apiVersion": answer["apiVersion"]}
        items = [{**api, **item} for item in answer["items"]]
        names = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}
        for item in items:
            await self._add(kind, "ADDED", item)
        for (each, namespace, name), seen in list(self._seen.items()):
            if each == kind and (namespace, name) not in names and seen[-1].change != "DELETED":
                await self._add(kind, "DELETED", seen[-1].object)
        self._synced.add(kind)
        version: str = answer["metadata"]["resourceVersion"]
        return version

    async def _add(self, kind: str, change: str, found: Document) -> None:
        metadata = found["metadata"]
        seen = self._seen[kind, metadata["namespace"], metadata["name"]]
        version = metadata["resourceVersion"]
        is_known = seen and seen[-1].object["metadata"]["resourceVersion"] == version
        if is_known and change != "DELETED":
            return
        seen.append(Seen(change, found, time.monotonic()))
        async with self._changed:
            self._changed.notify_all()


@asynccontextmanager
async def recording(client: ApiClient, *kinds: str) -> AsyncIterator[Recorder]:
    """Record objects of these kinds while the block runs."""
    recorder = Recorder(client, *kinds)
    running = asyncio.create_task(recorder.run())
    try:
        await recorder.synced()
        yield recorder
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
