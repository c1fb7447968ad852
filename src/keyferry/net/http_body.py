"""Reads response bodies within a size limit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import aiohttp


def uncounted() -> AbstractContextManager[Callable[[int], None]]:
    """Return a block in which a response arrives that is not counted."""
    return nullcontext(ignore_bytes)


def ignore_bytes(_: int) -> None:
    """Do not count the bytes of a chunk."""


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


async def read_body(
    response: aiohttp.ClientResponse,
    *,
    max_bytes: int,
    count: Callable[[int], None] = ignore_bytes,
) -> bytes:
    """Return the body of a response.

    Args:
        response: whose body was not read yet.
        max_bytes: the largest size that is accepted; no more than a chunk beyond it is received.
        count: called with the size of each chunk; what it raises ends the request.

    Raises:
        BodyTooLargeError: the body is larger.
        aiohttp.ClientError, TimeoutError, OSError: the connection failed.
    """
    chunks: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        count(len(chunk))
        if size > max_bytes:
            raise BodyTooLargeError
    return b"".join(chunks)
