"""Serves the status page on a loopback address.

    async with serving_page("127.0.0.1:8090", source, server="keyferry-sync-0", ...) as address:
        ...

One request:

1. `site.refusal` checks method and host.
2. `Snapshot` returns the facts of the last seconds, or reads them: `StatusSource`.
3. `workloads.take_inventory` decides the state of each workload, once for each read.
4. `site.Site.render` selects and renders them.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from keyferry.aio import http_library  # noqa: F401 (first)

# isort: split
from aiohttp import web

from keyferry import __version__
from keyferry.errors import KeyferryError, PlatformError, Stage
from keyferry.status_page.query import parse_query
from keyferry.status_page.site import (
    ICON_PATH,
    NEEDS_CLUSTER,
    NEEDS_PROCESSES,
    PATHS,
    Answer,
    Look,
    Site,
    headers,
    icon,
    refusal,
)
from keyferry.status_page.snapshots import KEEP_SECONDS, Snapshot
from keyferry.status_page.workloads import take_inventory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from keyferry.aio.clock import Clock
    from keyferry.status_page.facts import ProcessFacts, StatusSource
    from keyferry.status_page.workloads import Inventory


@asynccontextmanager
async def serving_page(
    address: tuple[str, int],
    source: StatusSource,
    *,
    server: str,
    clock: Clock,
    flag: str,
    keep_seconds: float = KEEP_SECONDS,
) -> AsyncIterator[int]:
    """Serve while the block runs; yield the port.

    Args:
        address: a loopback address, and the port; 0 for any.
        source: reads what the pages show.
        server: who serves the page, for its footer.
        clock: the time.
        flag: that sets the address, for messages.
        keep_seconds: how long facts are shown before they are read again.

    Raises:
        PlatformError: the address is in use.
    """
    style = files("keyferry.status_page").joinpath("style.css").read_text("utf-8")
    pages = _Pages(source, Look(style, server, __version__), clock, keep_seconds)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pages.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        host, port = address
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise PlatformError(
                f"failed to serve the status page on {host}:{port}: {reason}",
                f"Stop the process that uses the port, or set another one with {flag}.",
                stage=Stage.REQUEST,
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class _Pages:
    """Answers requests.

    Args:
        source: reads what the pages show.
        look: of all pages.
        clock: the time.
        keep_seconds: how long facts are shown before they are read again.
    """

    def __init__(self, source: StatusSource, look: Look, clock: Clock, keep_seconds: float) -> None:
        self._source = source
        self._site = Site(look)
        self._headers = headers(look.style)
        self._clock = clock
        self._inventory = Snapshot(self._take_inventory, keep_seconds=keep_seconds)
        self._processes = Snapshot(source.read_processes, keep_seconds=keep_seconds)

    async def handle(self, request: web.Request) -> web.Response:
        """Return the response to a request."""
        answer = await self._answer(request)
        return web.Response(
            status=answer.status,
            text=answer.body,
            content_type=answer.content_type,
            headers={**self._headers, **answer.headers},
        )

    async def _answer(self, request: web.Request) -> Answer:
        if refused := refusal(request.method, request.headers.get("Host", "")):
            return refused
        path, query = request.path, parse_query(request.rel_url.raw_query_string)
        if path == ICON_PATH:
            return icon()
        if path not in PATHS:
            return self._site.not_found(query, self._clock.wall())
        try:
            inventory, processes = await self._read(path)
        except KeyferryError as error:
            return self._site.error(query, path, error, self._clock.wall())
        # On a thread: 10,000 workloads take a tenth of a second.
        return await asyncio.to_thread(self._site.render, path, query, inventory, processes)

    async def _read(self, path: str) -> tuple[Inventory | None, ProcessFacts | None]:
        """Return what a page needs; both are read at the same time."""
        inventory = asyncio.ensure_future(self._inventory.get()) if path in NEEDS_CLUSTER else None
        processes = (
            asyncio.ensure_future(self._processes.get()) if path in NEEDS_PROCESSES else None
        )
        tasks = [each for each in (inventory, processes) if each is not None]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return (
            inventory.result() if inventory is not None else None,
            processes.result() if processes is not None else None,
        )

    async def _take_inventory(self) -> Inventory:
        return await asyncio.to_thread(take_inventory, await self._source.read_cluster())
