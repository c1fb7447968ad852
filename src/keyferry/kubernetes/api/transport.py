"""Sends the requests of lightkube through aiohttp, which takes less CPU time (ADR 0009).

lightkube builds requests and reads answers with httpx; only what lies between goes another way.
The exceptions are those of httpx, so that callers need no change.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
from yarl import URL

from keyferry.aio.http_library import aiohttp
from keyferry.net.connector import new_connector

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Iterator

    from aiohappyeyeballs import AddrInfoType

KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}
"""After 30 s without data the system probes the connection, and closes it after 45 s without an
answer."""


class KubeTransport(httpx2.AsyncBaseTransport):
    """Connection pool for one event loop; connections open on first use.

    Args:
        tls: verifies the API server and holds the client certificate.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends a request; the caller reads the body of the response.

        Raises:
            httpx2.TransportError: there was no response.
        """
        limits = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=limits.get("pool"),
            sock_connect=limits.get("connect"),
            sock_read=limits.get("read"),
        )
        body = await request.aread()
        with _translate_aiohttp_errors():
            response = await self._open_session().request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=body or None,
                timeout=timeout,
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
            )
        return httpx2.Response(
            response.status, headers=list(response.raw_headers), stream=_ResponseBody(response)
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=new_connector(tls=self._tls, new_socket=new_kept_alive_socket),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx decompresses
            )
        return self._session


def new_kept_alive_socket(info: AddrInfoType) -> socket.socket:
    """Return a socket that the system closes if the peer does not answer any more.

    A watch may be silent for as long as it lasts, so silence does not mean that it is dead.
    """
    family, kind, protocol, _, _ = info
    created = socket.socket(family, kind, protocol)
    created.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # macOS lacks the first one
            created.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return created


class _ResponseBody(httpx2.AsyncByteStream):
    """Streams the body of a response; that of a watch is unbounded."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        with _translate_aiohttp_errors():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        """Return the connection to the pool, or close it if the body was not read completely."""
        self._response.release()


@contextmanager
def _translate_aiohttp_errors() -> Iterator[None]:
    """Raise the httpx counterparts of the exceptions that aiohttp raises in the block."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx2.ConnectTimeout(str(error)) from error
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx2.ConnectError(str(error)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx2.ReadError(str(error)) from error
