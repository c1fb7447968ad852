"""gRPC server with graceful shutdown; errors become gRPC statuses."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from keyferry.errors import InternalError, KeyferryError, PlatformError, descriptor_error
from keyferry.net.sockets import bind_private
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from keyferry.net.sockets import BoundSocket, GrpcEndpoint

Context = grpc.aio.ServicerContext[Any, Any]

DRAIN_SECONDS = 120.0
"""Time for calls in flight after the first signal: the timeout of a kubelet call."""

_STATUS = {status.value[0]: status for status in grpc.StatusCode}
_log = get_logger("grpc")


async def abort(context: Context, error: BaseException, *, operation: str) -> NoReturn:
    """Abort the call with the status of `error`, and log the error once.

    Any exception but a KeyferryError is an internal error, unless it says that no file can be
    opened. The caller gets only its type, because its text could contain a secret value.
    """
    error = descriptor_error(error) or error
    if isinstance(error, KeyferryError):
        _log.error(f"{operation} failed", **error.log_pairs())
        await context.abort(_STATUS[error.code], str(error))
    internal = InternalError(
        f"{operation} failed: internal error ({type(error).__name__})",
        "Report it as a bug with the log of this process.",
    )
    _log.error(f"{operation} failed", **internal.log_pairs(), where=_traceback_summary(error))
    await context.abort(_STATUS[internal.code], str(internal))
    raise AssertionError  # abort raises; for the type checker


def stop_signal() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; the second exits with code 1."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


@asynccontextmanager
async def serving_grpc(
    endpoint: GrpcEndpoint,
    add_services: Callable[[grpc.aio.Server], None],
    *,
    drain: float = DRAIN_SECONDS,
) -> AsyncIterator[BoundSocket | None]:
    """Serve on `endpoint` while the block runs, then drain calls in flight.

    Args:
        endpoint: address to listen on.
        add_services: registers the services with the server.
        drain: seconds to wait for calls in flight after the block.

    Yields:
        The socket file, or None for a TCP endpoint.

    Raises:
        PlatformError: the endpoint cannot be listened on.
    """
    server = grpc.aio.server()
    add_services(server)
    try:
        bound = bind_private(endpoint, server.add_insecure_port)
    except RuntimeError as error:
        raise PlatformError(
            f"failed to listen on {endpoint.address}: {error}",
            "Choose another --endpoint, or stop the process that uses this one.",
        ) from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(drain)
        if bound is not None:
            bound.remove()


def _traceback_summary(error: BaseException) -> str:
    """Return the call chain of `error` without its text, which may contain a secret value."""
    lines = []
    trace = error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        lines.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}:{code.co_name}")
        trace = trace.tb_next
    return " > ".join(lines[-6:])
