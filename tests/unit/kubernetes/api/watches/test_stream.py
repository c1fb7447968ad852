"""The lines and the parameters of a watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from keyferry.kubernetes.api.watches.changes import (
    Change,
    Changed,
    Expired,
    ListFirst,
    Progress,
    Removed,
    Resume,
)
from keyferry.kubernetes.api.watches.stream import (
    QUIET_SECONDS,
    WatchEndedError,
    read_changes,
    watch_parameters,
)
from tests.fakes.virtual_time import virtual_time

OBJECT: Any = {"metadata": {"name": "web", "resourceVersion": "7"}}


def line(kind: str, content: Any) -> bytes:
    """Return one line of a stream."""
    return json.dumps({"type": kind, "object": content}, ensure_ascii=False).encode() + b"\n"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Yield the parts."""
    for part in parts:
        yield part


async def read(*parts: bytes) -> list[Change]:
    """Return the changes in a body."""
    return [change async for change in read_changes(chunks(*parts))]


async def test_each_type_of_line_is_a_change() -> None:
    """A bookmark is the progress of the watch; one of them ends the list."""
    metadata = {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}
    body = b"".join(
        [
            line("ADDED", OBJECT),
            line("MODIFIED", OBJECT),
            line("DELETED", OBJECT),
            line("BOOKMARK", {"metadata": {"resourceVersion": "8"}}),
            line("BOOKMARK", {"kind": "Pod", "metadata": metadata}),
            line("ERROR", {"code": 410, "reason": "Expired"}),
        ]
    )
    expected = [
        *(Changed(OBJECT), Changed(OBJECT), Removed(OBJECT)),
        *(Progress("8"), Progress("9", ends_list=True), Expired()),
    ]
    assert expected == await read(body)
    assert expected == await read(*(bytes([byte]) for byte in body))


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029", "\x0b", "\x1c"])
async def test_line_separators_of_unicode_do_not_end_a_line(separator: str) -> None:
    """An author of a SecretProviderClass could stop the watch of every node with one."""
    content = {**OBJECT, "spec": {"provider": f"a{separator}b"}}
    body = line("ADDED", content)
    assert [Changed(content)] == await read(body)


async def test_error_of_the_server_has_its_status() -> None:
    """Such as 504: the server does not have the version that the list must have."""
    with pytest.raises(WatchEndedError) as caught:
        await read(line("ERROR", {"code": 504, "message": "canary"}))
    assert caught.value.code == 504
    assert "canary" not in str(caught.value)


async def test_line_that_is_no_event_is_an_error() -> None:
    """The page of a proxy, for example."""
    with pytest.raises(msgspec.MsgspecError):
        await read(b"<html>\n")


@virtual_time
async def test_stream_without_a_line_ends() -> None:
    """The server should have ended it. Bookmarks show that it is alive."""

    async def alive_for(minutes: int) -> AsyncIterator[bytes]:
        for _ in range(minutes):
            await asyncio.sleep(60)
            yield line("BOOKMARK", {"metadata": {"resourceVersion": "8"}})
        await asyncio.Event().wait()

    changes = [change async for change in read_changes(alive_for(10))]
    assert [Progress("8")] * 10 == changes
    assert 10 * 60 + QUIET_SECONDS == asyncio.get_running_loop().time()


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, "300"), (0.5, "450"), (1.0, "600")])
def test_watches_of_nodes_end_at_different_times(jitter: float, seconds: str) -> None:
    """As those of client-go."""
    found = watch_parameters(Resume("7"), jitter=lambda: jitter)
    expected = {"allowWatchBookmarks": "true", "timeoutSeconds": seconds, "resourceVersion": "7"}
    assert expected == found


def test_watch_that_lists_first_says_so() -> None:
    """It also asks for bookmarks, because one of them ends the list."""
    found = watch_parameters(ListFirst("0"))
    assert "true" == found["allowWatchBookmarks"] == found["sendInitialEvents"]
    assert ("NotOlderThan", "0") == (found["resourceVersionMatch"], found["resourceVersion"])
