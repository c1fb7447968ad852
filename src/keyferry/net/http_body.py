"""Reads response bodies within a size limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


async def read_body(response: aiohttp.ClientResponse, *, max_bytes: int) -> bytes:
    """Return the body of a response.

    Args:
        response: whose body was not read yet.
        max_bytes: the largest size that is accepted; no more than a chunk beyond it is received.

    Raises:
        BodyTooLargeError: the body is larger.
        aiohttp.ClientError, TimeoutError, OSError: the connection failed.
    """
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLargeError
    return bytes(body)
