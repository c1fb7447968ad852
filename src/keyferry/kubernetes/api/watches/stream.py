"""Reads the stream of a watch: one JSON document in each line.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec

from keyferry.kubernetes.api.watches.changes import (
    Changed,
    Expired,
    ListFirst,
    Progress,
    Removed,
    Resume,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from keyferry.kubernetes.api.watches.changes import Change, WatchStart

MIN_WATCH_SECONDS = 300.0
"""The API server ends a watch after a random time from here to twice that, as for client-go, so
that the nodes of a cluster do not reconnect together."""
QUIET_SECONDS = 2 * MIN_WATCH_SECONDS + 60.0
"""A watch without a line for this long is reopened, because the server should have ended it.

A server sends a bookmark about every minute, but none for a kind without changes unless its etcd
reports progress (`--experimental-watch-progress-notify-interval`, by default every 10 minutes). So
the system finds dead connections instead (`kubernetes.api.transport`).
"""

_INITIAL_EVENTS_END = "k8s.io/initial-events-end"
_EXPIRED_STATUS = 410


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _BookmarkMetadata(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion")
    annotations: dict[str, str] = {}


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMetadata


class _Status(msgspec.Struct):
    code: int = 0


class WatchEndedError(Exception):
    """The API server ended a watch with an error.

    Attributes:
        code: the HTTP status.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def watch_parameters(
    start: WatchStart, *, jitter: Callable[[], float] = random.random
) -> dict[str, str]:
    """Return the query parameters of a watch, without its selection.

    Args:
        start: where it starts.
        jitter: returns a number from 0 to 1.
    """
    seconds = round(MIN_WATCH_SECONDS * (1.0 + jitter()))
    parameters = {"allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
    match start:
        case Resume(version):
            return {**parameters, "resourceVersion": version}
        case ListFirst(version):
            return {
                **parameters,
                "resourceVersion": version,
                "sendInitialEvents": "true",
                "resourceVersionMatch": "NotOlderThan",
            }


async def read_changes(
    chunks: AsyncIterator[bytes], *, quiet_seconds: float = QUIET_SECONDS
) -> AsyncGenerator[Change, None]:
    """Yield the changes in the body of a response, until it ends or nothing arrives.

    Args:
        chunks: the body.
        quiet_seconds: how long to wait for the next line.

    Raises:
        WatchEndedError: the server reports an error other than an expired resourceVersion.
        msgspec.MsgspecError: a line is not a watch event.
    """
    rest = b""
    while True:
        try:
            async with asyncio.timeout(quiet_seconds):
                rest += await anext(chunks)
        except (TimeoutError, StopAsyncIteration):
            return
        # Not `splitlines`: texts contain other line separators, such as U+0085.
        *lines, rest = rest.split(b"\n")
        for line in lines:
            if line:
                yield _change(line)


def _change(line: bytes) -> Change:
    event = msgspec.json.decode(line, type=_Line)
    match event.type:
        case "BOOKMARK":
            metadata = msgspec.json.decode(event.object, type=_Bookmark).metadata
            ends_list = metadata.annotations.get(_INITIAL_EVENTS_END) == "true"
            return Progress(metadata.resource_version, ends_list=ends_list)
        case "ERROR":
            code = msgspec.json.decode(event.object, type=_Status).code
            if code == _EXPIRED_STATUS:
                return Expired()
            raise WatchEndedError(code)
        case "DELETED":
            return Removed(msgspec.json.decode(event.object, type=dict))
        case _:
            return Changed(msgspec.json.decode(event.object, type=dict))
