"""The HTTP front of a daemon: `/metrics`, and checks such as `/healthz` that answer in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from keyferry.errors import PlatformError, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.typedefs import Handler

    from keyferry.telemetry.metrics import Metrics


HealthCheck = Callable[[], Awaitable[str | None]]
"""Answers what is wrong, in words; None when nothing is."""


@asynccontextmanager
async def serving_status(
    address: str, *, metrics: Metrics | None, checks: Mapping[str, HealthCheck], flag: str
) -> AsyncIterator[str]:
    """Serves on `address` while the block runs; yields the real `host:port`.

    Args:
        address: `:8095` or `127.0.0.1:8095`.
        metrics: shown at `/metrics`; None for none.
        checks: by path; 200 when nothing is wrong, else 503 and what it is.
        flag: that the address comes from, for messages.

    Raises:
        PlatformError: the address is malformed or taken.
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


def _metrics_handler(metrics: Metrics) -> Handler:
    async def show(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.exposition(),
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
        raise PlatformError(
            f"cannot serve status pages on {address!r}: {error.strerror or error}",
            f"Free the port, or choose another with {flag}.",
            stage=Stage.REQUEST,
        ) from error


def _parse_address(address: str, flag: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise PlatformError(
            f"{flag} {address!r} is not an address",
            "Write it as :8095 or 127.0.0.1:8095.",
            stage=Stage.REQUEST,
        )
    return host, int(port)
