"""HTTP server of a daemon: `/metrics` and health checks such as `/healthz`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from keyferry.errors import PlatformError, SettingInvalidError, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.typedefs import Handler


HealthCheck = Callable[[], Awaitable[str | None]]
"""Returns the problem as text; None if healthy."""
MetricsPage = Callable[[], Awaitable[bytes]]
"""Returns series in the text format of Prometheus."""


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
    app = web.Application()
    if metrics is not None:
        app.router.add_get("/metrics", _metrics_handler(metrics))
    for path, check in checks.items():
        app.router.add_get(path, _check_handler(check))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await _listen(runner, address, flag)
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def _metrics_handler(metrics: MetricsPage) -> Handler:
    async def show(_: web.Request) -> web.Response:
        return web.Response(
            body=await metrics(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    return show


def _check_handler(check: HealthCheck) -> Handler:
    async def show(_: web.Request) -> web.Response:
        problem = await check()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    return show


async def _listen(runner: web.AppRunner, address: str, flag: str) -> None:
    host, port = _parse_address(address, flag)
    try:
        await web.TCPSite(runner, host or None, port).start()
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
