"""Reads small pages of pods over HTTP, such as their metrics. No proxy, no redirect, one try."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yarl import URL

from keyferry.aio.http_library import aiohttp
from keyferry.errors import PlatformError
from keyferry.net.connector import new_connector
from keyferry.net.exchange import BodyTooLargeError, read_body

if TYPE_CHECKING:
    from types import TracebackType


class PageReader:
    """Opens connections in a block, and closes them at its end."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> PageReader:
        self._session = aiohttp.ClientSession(
            connector=new_connector(), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, address: str, port: int, path: str, *, max_bytes: int) -> bytes:
        """Return a page. The caller limits the time.

        Args:
            address: of the pod.
            port: of the pod.
            path: of the page.
            max_bytes: the largest page that is accepted.

        Raises:
            PlatformError: there was no such page.
        """
        assert self._session is not None
        url = URL.build(scheme="http", host=address, port=port, path=path)
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise PlatformError(f"{path} returned HTTP {response.status}")
                return await read_body(response, max_bytes=max_bytes)
        except BodyTooLargeError:
            raise PlatformError(f"{path} is larger than {max_bytes} bytes") from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise PlatformError(f"cannot connect ({type(error).__name__})") from None
