"""The stream of a watch of a small Kubernetes API server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.fakes.kube_objects import ObjectTracker, StatusError
from tests.fakes.kube_selection import ListQuery


class WatchStream:
    """Sends the changes of a selection.

    Args:
        response: the prepared response.
        query: the selection.
        objects: the objects of the server.
        seen: changes after this version are sent.
        bookmarks: send a bookmark for changes of objects that are not selected.
    """

    def __init__(
        self,
        response: web.StreamResponse,
        query: ListQuery,
        objects: ObjectTracker,
        *,
        seen: int,
        bookmarks: bool,
    ) -> None:
        self._response = response
        self._query = query
        self._objects = objects
        self._seen = seen
        self._bookmarks = bookmarks

    async def send_list(self) -> None:
        """Send all objects, and a bookmark that ends the list."""
        for manifest in self._objects.select(self._query):
            await self._send("ADDED", manifest)
        await self.send_bookmark({"k8s.io/initial-events-end": "true"})

    async def send_bookmark(self, annotations: Mapping[str, str] | None = None) -> None:
        """Send the version up to which all changes were sent."""
        if self._bookmarks:
            metadata: dict[str, Any] = {"resourceVersion": str(self._seen)}
            if annotations:
                metadata["annotations"] = dict(annotations)
            await self._send("BOOKMARK", {"metadata": metadata})

    async def send_changes(self) -> None:
        """Send changes until cancelled, or until the history has expired."""
        while True:
            changed = self._objects.changed
            if self._seen < self._objects.compacted_version:
                await self._send("ERROR", history_expired().status)
                return
            for version, kind, key, manifest, before in self._objects.history:
                if version <= self._seen or key[0] != self._query.plural:
                    continue
                if self._query.matches(manifest):
                    await self._send(kind, self._query.rendered(manifest))
                elif before is not None and self._query.matches(before):
                    await self._send("DELETED", self._query.rendered(manifest))
            self._seen = self._objects.version
            await changed.wait()

    async def _send(self, kind: str, manifest: Mapping[str, Any]) -> None:
        line = json.dumps({"type": kind, "object": manifest}, ensure_ascii=False)
        await self._response.write(line.encode() + b"\n")


async def refuse_list(request: web.Request) -> web.StreamResponse:
    """End a watch that begins with a list, as a server whose etcd is too old for that."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    status = StatusError(500, "InternalError", "feature RequestWatchProgress is disabled").status
    line = json.dumps({"type": "ERROR", "object": status})
    await response.write(line.encode() + b"\n")
    return response


def history_expired() -> StatusError:
    """Return the error for a watch from a version that is too old."""
    return StatusError(410, "Expired", "too old resource version: 101 (205)")
