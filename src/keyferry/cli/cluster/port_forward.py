"""Forwards a port of this machine to a pod, through the Kubernetes API."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from keyferry.errors import KeyferryError, PlatformError, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from keyferry.kubernetes.api.streams import ForwardedConnection

HOST = "127.0.0.1"
_CHUNK_BYTES = 64 << 10


@asynccontextmanager
async def forwarding(
    port: int,
    connect: Callable[[], AbstractAsyncContextManager[ForwardedConnection]],
    on_error: Callable[[KeyferryError], Awaitable[None]],
) -> AsyncIterator[int]:
    """Forward while the block runs; yield the local port.

    A browser whose connection cannot be forwarded gets the reason as a page.

    Args:
        port: of this machine; 0 for any.
        connect: connects to the pod, once for each local connection.
        on_error: called with the reason of a connection that cannot be forwarded.

    Raises:
        PlatformError: the port is in use.
    """
    open_tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_tasks.add(task)
        try:
            async with connect() as remote:
                await _pump(reader, writer, remote)
        except KeyferryError as error:
            writer.write(_failure_page(error))
            await on_error(error)
        except OSError:  # the browser closed its connection
            pass
        finally:
            open_tasks.discard(task)
            writer.close()

    try:
        server = await asyncio.start_server(serve, HOST, port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise PlatformError(
            f"cannot listen on {HOST}:{port}: {reason}",
            "Choose another port with --port.",
            stage=Stage.REQUEST,
        ) from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in open_tasks:
            task.cancel()
        await asyncio.gather(*open_tasks, return_exceptions=True)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, remote: ForwardedConnection
) -> None:
    """Copy both ways until one side closes the connection."""

    async def upload() -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            await remote.send(chunk)

    async def download() -> None:
        while chunk := await remote.receive():
            writer.write(chunk)
            await writer.drain()

    tasks = [asyncio.ensure_future(upload()), asyncio.ensure_future(download())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failure_page(error: KeyferryError) -> bytes:
    body = f"{error}\n".encode()
    head = (
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"X-Content-Type-Options: nosniff\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return f"{head}\r\n".encode() + body
