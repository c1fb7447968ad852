"""The HTTP front of a daemon: `/metrics` and `/healthz`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from keyferry.errors import Hop, PlatformError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from keyferry.metrics import Metrics


@asynccontextmanager
async def serving_web(
    address: str,
    *,
    metrics: Metrics,
    healthy: Callable[[], Awaitable[bool]],
    health_path: str = "/healthz",
) -> AsyncIterator[str]:
    """Serves on `address` while the block runs; yields the real `host:port`.

    Raises:
        PlatformError: the address is malformed or taken.
    """

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def show_health(_: web.Request) -> web.Response:
        ok = await healthy()
        return web.Response(text="ok" if ok else "not serving", status=200 if ok else 503)

    app = web.Application()
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get(health_path, show_health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await _listen(runner, address)
        yield "{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: str) -> None:
    host, port = _split(address)
    try:
        await web.TCPSite(runner, host or None, port).start()
    except OSError as error:
        raise PlatformError(
            f"cannot serve metrics on {address!r}: {error.strerror or error}",
            "Free the port, or choose another with --metrics-addr.",
            hop=Hop.REQUEST,
        ) from error


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise PlatformError(
            f"--metrics-addr {address!r} is not an address",
            "Write it as :8095 or 127.0.0.1:8095.",
            hop=Hop.REQUEST,
        )
    return host, int(port)
