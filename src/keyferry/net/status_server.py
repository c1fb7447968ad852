"""HTTP server of a daemon: `/metrics` and health checks such as `/healthz`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from keyferry.aio import http_library  # noqa: F401 (first)

# isort: split
# The whole of aiohttp.web would take 2 MiB more, for routes, files and templates.
from aiohttp.web_response import Response
from aiohttp.web_server import Server

from keyferry.errors import PlatformError, SettingInvalidError, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.web_request import BaseRequest


HealthCheck = Callable[[], Awaitable[str | None]]
"""Returns the problem as text; None if healthy."""
MetricsPage = Callable[[], Awaitable[bytes]]
"""Returns series in the text format of Prometheus."""
Page = Callable[[], Awaitable[Response]]
SHUTDOWN_SECONDS = 60.0
"""Time for requests in flight when the server is closed."""


@asynccontextmanager
async def serving_status(
    address: str, *, metrics: MetricsPage | None, checks: Mapping[str, HealthCheck], flag: str
) -> AsyncIterator[str]:
    """Serve on `address` while the block runs; yield the actual `host:port`.

    Args:
        address: `:8095` or `127.0.0.1:8095`.
        metrics: returns what `/metrics` shows; None without that page.
        checks: health checks by path; 200 if healthy, else 503 with the problem.
        flag: flag that sets the address, for messages.

    Raises:
        PlatformError: the address is invalid or in use.
    """
    pages = {path: _check_page(check) for path, check in checks.items()}
    if metrics is not None:
        pages["/metrics"] = _metrics_page(metrics)

    async def respond(request: BaseRequest) -> Response:
        page = pages.get(request.path)
        if page is None:
            return Response(text="404: Not Found", status=404)
        if request.method not in {"GET", "HEAD"}:
            text = "405: Method Not Allowed"
            return Response(text=text, status=405, headers={"Allow": "GET,HEAD"})
        return await page()

    server = Server(respond, access_log=None)
    listener = await _listen(server, address, flag)
    try:
        yield "{}:{}".format(*listener.sockets[0].getsockname()[:2])
    finally:
        listener.close()
        server.pre_shutdown()
        await server.shutdown(SHUTDOWN_SECONDS)


def _metrics_page(metrics: MetricsPage) -> Page:
    async def show() -> Response:
        return Response(
            body=await metrics(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    return show


def _check_page(check: HealthCheck) -> Page:
    async def show() -> Response:
        problem = await check()
        return Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    return show


async def _listen(server: Server, address: str, flag: str) -> asyncio.Server:
    host, port = _parse_address(address, flag)
    try:
        loop = asyncio.get_running_loop()
        return await loop.create_server(server, host or None, port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # asyncio's text repeats more
        raise PlatformError(
            f"failed to serve status on {address!r}: {reason}",
            f"Stop the process that uses the port, or set another one with {flag}.",
            stage=Stage.REQUEST,
        ) from error


def _parse_address(address: str, flag: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise SettingInvalidError(
            f"invalid address {address!r} for {flag}",
            "Use a form such as :8095 or 127.0.0.1:8095.",
        )
    return host, int(port)
