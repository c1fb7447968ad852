"""The running emulator: its two ports, its lock and its file of addresses."""

from __future__ import annotations

import os
import ssl
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp import web

from keyferry.errors import PlatformError, RequestInvalidError
from keyferry_devvault.crypto.development_ca import write_server_certificate
from keyferry_devvault.folder import BoundAddresses, connection_file, last_ports, locked
from keyferry_devvault.gateway import Gateway, Handler
from keyferry_devvault.server_names import ServerNames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from keyferry_devvault.request_log import RequestLog
    from keyferry_devvault.storage.data import DevVaultData

_STOP_SECONDS = 1.0


@asynccontextmanager
async def serve(
    data: DevVaultData,
    *,
    request_log: RequestLog,
    listen: tuple[str, int] = ("127.0.0.1", 0),
    wall_time: Callable[[], float] = time.time,
) -> AsyncIterator[BoundAddresses]:
    """Serve `data` until the block ends.

    Args:
        data: the data to serve.
        request_log: records each request.
        listen: address and port for TLS; 0 selects the last one of this data, if it is free, or
            any free port. The plain port is selected so, too.
        wall_time: returns Unix time.

    Raises:
        RequestInvalidError: the address is not a loopback address.
        PlatformError: another process serves the folder or uses the port.
    """
    address, port = listen
    check_loopback(address)
    names = ServerNames()
    gateway = Gateway(data, request_log, wall_time, names)
    with locked(data.folder):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(write_server_certificate(data.folder))
        names.track(context)
        async with AsyncExitStack() as stack:
            last_https, last_http = last_ports(data.folder)
            https = await _listen(
                stack, gateway.serve_https, (address, port), context, preferred=last_https
            )
            http = await _listen(stack, gateway.serve_http, (address, 0), None, preferred=last_http)
            listening = BoundAddresses(https, http)
            with connection_file(data.folder, listening):
                yield listening


def check_loopback(address: str) -> None:
    """Check that `address` is a loopback address.

    Raises:
        RequestInvalidError: it is not.
    """
    try:
        loopback = ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise RequestInvalidError(
            f"the development vault does not listen on {address!r}: it contains secrets and listens"
            " on loopback only",
            "Omit --listen, or pass a loopback address such as 127.0.0.1:8443.",
        )


async def _listen(
    stack: AsyncExitStack,
    handler: Handler,
    listen: tuple[str, int],
    context: ssl.SSLContext | None,
    *,
    preferred: int,
) -> tuple[str, int]:
    """Listen on one port until `stack` closes, and return its address.

    Args:
        stack: stops the server.
        handler: handles the requests.
        listen: address and port; 0 selects `preferred` if it is free, or any free port.
        context: for TLS; None: plain HTTP.
        preferred: the port to try first; 0 for none.
    """
    server = web.Server(handler, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    address, port = listen
    if port == 0 and preferred:
        with suppress(OSError):
            await web.TCPSite(runner, address, preferred, ssl_context=context).start()
            return address, preferred
    try:
        await web.TCPSite(runner, address, port, ssl_context=context).start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # asyncio's text repeats more
        raise PlatformError(
            f"the development vault cannot listen on {address}:{port}: {reason}",
            "Choose another port with --listen, or 0 for a free one.",
        ) from error
    bound = runner.addresses[0]
    return str(bound[0]), int(bound[1])
