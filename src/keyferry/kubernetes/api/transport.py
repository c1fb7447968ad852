"""Carries the requests of lightkube by aiohttp, which takes less time than its own way (ADR 0009).

lightkube builds requests and reads answers with httpx; only what lies between goes another way.
The exceptions are those of httpx, so that callers need no change.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
import httpx2
from yarl import URL

from keyferry.net.connector import new_connector

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Iterator


class KubeTransport(httpx2.AsyncBaseTransport):
    """A pool of connections; opens on first use, for one event loop.

    Args:
        tls: how the API server is verified, and as whom it is called.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends a request; the caller reads the body of the response.

        Raises:
            httpx2.TransportError: no answer came.
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
            answer = await self._open_session().request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=body or None,
                timeout=timeout,
                allow_redirects=False,
                skip_auto_headers=("Content-Type",),
            )
        return httpx2.Response(
            answer.status, headers=list(answer.raw_headers), stream=_ResponseBody(answer)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=new_connector(tls=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # httpx does
            )
        return self._session


class _ResponseBody(httpx2.AsyncByteStream):
    """The body of an answer as it arrives; a watch has no end."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        with _translate_aiohttp_errors():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        """Give the connection back, or end it where the body was not read to its end."""
        self._response.release()


@contextmanager
def _translate_aiohttp_errors() -> Iterator[None]:
    """Turns what aiohttp raises in the block into what httpx would have raised."""
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
