"""Single HTTP exchanges: GET requests on connections of aiohttp, and bodies within a size limit.

A GET request uses no client session of aiohttp, which builds a request, a response, headers,
cookies and timers for each request and takes more processor time than the rest of aiohttp. The
connections, their pool, TLS, the parser and the errors are those of aiohttp.

Source: docs/adr/0024-get-requests-without-client-session.md
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.aio.http_library import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractContextManager

    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from yarl import URL

_READ_BYTES = 1 << 16
"""What is received before the body is read, as in aiohttp's client."""
_OWN_HEADERS = frozenset(
    (
        *("host", "user-agent", "accept", "accept-encoding", "connection"),
        *("content-length", "transfer-encoding", "expect", "te", "trailer", "upgrade"),
    )
)
_SENT_HEADERS = "".join(
    f"{name}: {text}\r\n"
    for name, text in (
        *aiohttp.ClientRequest.DEFAULT_HEADERS.items(),
        ("User-Agent", aiohttp.http.SERVER_SOFTWARE),
    )
)


@dataclass(frozen=True, slots=True)
class Response:
    """A response whose body has not been read.

    Attributes:
        status: of the response.
        headers: of the response, by names of any case.
        content: the body.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: aiohttp.StreamReader = field(repr=False)


HttpResponse = aiohttp.ClientResponse | Response


def is_plain(headers: Mapping[str, str]) -> bool:
    """Return whether `exchange` can send these headers: it sends some of its own."""
    return not any(name.lower() in _OWN_HEADERS for name in headers)


def new_template(
    url: URL, *, tls: object = None, server_hostname: str | None = None
) -> aiohttp.ClientRequest:
    """Return what identifies the connections to a host; `exchange` sends other requests on them.

    Args:
        url: of the host.
        tls: the TLS context; None for that of the connector.
        server_hostname: TLS server name if it is not the host; None for the host.
    """
    return aiohttp.ClientRequest(
        "GET",
        url.origin(),
        loop=asyncio.get_running_loop(),
        ssl=True if tls is None else tls,  # type: ignore[arg-type]
        server_hostname=server_hostname,
    )


@asynccontextmanager
async def exchange(
    connector: aiohttp.BaseConnector,
    template: aiohttp.ClientRequest,
    url: URL,
    *,
    headers: Mapping[str, str],
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - that of aiohttp, with two limits
) -> AsyncIterator[HttpResponse]:
    """Send a GET request without following redirects; yield the response.

    Like aiohttp's client, it repeats the request once on another connection if the server closed
    the first one without a response.

    Args:
        connector: provides the connection, and gets it back if the body was read.
        template: of the host; see `new_template`.
        url: absolute, encoded, at this host.
        headers: for which `is_plain` is true.
        timeout: `total` also limits the block; `connect` is used, too.

    Raises:
        ValueError: the URL or a header contains a line break.
        aiohttp.ClientError, TimeoutError, OSError: no response arrived.
    """
    head = _head(url, headers)
    async with asyncio.timeout(timeout.total):
        try:
            connection, message, body = await _send(connector, template, url, head, timeout)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            connection, message, body = await _send(connector, template, url, head, timeout)
        try:
            yield Response(message.code, message.headers, body)
        except BaseException:
            connection.close()
            raise
        connection.release()  # closes it if the body was not read


def _head(url: URL, headers: Mapping[str, str]) -> bytes:
    """Return the request line and all headers.

    Raises:
        ValueError: a part contains a line break, so that it could add headers.
    """
    lines = [f"GET {url.raw_path_qs} HTTP/1.1", f"Host: {url.host_port_subcomponent}"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        # Not quoted: a header may contain a token.
        raise ValueError("a header of the request contains a line break")
    return f"{text}\r\n{_SENT_HEADERS}\r\n".encode()


async def _send(
    connector: aiohttp.BaseConnector,
    template: aiohttp.ClientRequest,
    url: URL,
    head: bytes,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
) -> tuple[Connection, RawResponseMessage, aiohttp.StreamReader]:
    """Send a request; return its connection, and the response without its body."""
    try:
        connection = await connector.connect(template, [], timeout)
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError(
            f"Connection timeout to host {url.origin()}"
        ) from error
    try:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None or transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(read_until_eof=True, read_bufsize=_READ_BYTES)
        transport.write(head)
        while True:
            message, body = await protocol.read()
            if message.code == 101 or not 100 <= message.code <= 199:
                return connection, message, body
    except aiohttp.http.HttpProcessingError as error:
        connection.close()
        raise aiohttp.ClientResponseError(
            template.request_info,
            (),
            status=error.code,
            message=error.message,
            headers=error.headers,
        ) from error
    except BaseException:
        connection.close()
        raise


# --- bodies ---------------------------------------------------------------------------------------


def uncounted() -> AbstractContextManager[Callable[[int], None]]:
    """Return a block in which a response arrives that is not counted."""
    return nullcontext(ignore_bytes)


def ignore_bytes(_: int) -> None:
    """Do not count the bytes of a chunk."""


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


async def read_body(
    response: HttpResponse,
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
