"""Reads response bodies within a size limit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import aiohttp

    Receiving = Callable[[], AbstractContextManager[Callable[[int], None]]]
    """Opens a block in which one response arrives, and yields a function that counts its bytes."""


def uncounted() -> AbstractContextManager[Callable[[int], None]]:
    """Count nothing; see `Receiving`."""
    return nullcontext(_ignore)


def _ignore(_: int) -> None:
    """Do not count a chunk."""


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


async def read_body(
    response: aiohttp.ClientResponse,
    *,
    max_bytes: int,
    count: Callable[[int], None] = _ignore,
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
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        count(len(chunk))
        if len(body) > max_bytes:
            raise BodyTooLargeError
    return bytes(body)
