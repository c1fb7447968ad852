"""Where gRPC calls enter: one server with an orderly stop, and errors as statuses."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from keyferry.errors import InternalError, KeyferryError, PlatformError
from keyferry.net.sockets import bind_private
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from keyferry.net.sockets import BoundSocket, GrpcEndpoint

Context = grpc.aio.ServicerContext[Any, Any]

DRAIN_SECONDS = 120.0
"""How long calls in flight may take after the first signal; kubelet gives a call as long."""

_STATUS = {status.value[0]: status for status in grpc.StatusCode}
_log = get_logger("grpc")


async def abort(context: Context, error: BaseException, *, operation: str) -> NoReturn:
    """Ends the call with the status of `error`, and logs it: once, where the call entered.

    An exception that is not ours is a defect; the caller gets its type only, because its text could
    hold anything.
    """
    if isinstance(error, KeyferryError):
        _log.error(f"{operation} failed", **error.log_pairs())
        await context.abort(_STATUS[error.code], str(error))
    defect = InternalError(
        f"{operation} failed by a defect of Keyferry ({type(error).__name__})",
        "Please report it with the log of this process.",
    )
    _log.error(f"{operation} failed", **defect.log_pairs(), where=_traceback_summary(error))
    await context.abort(_STATUS[defect.code], str(defect))
    raise AssertionError  # abort raises; this tells the type checker


def stop_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets.

    The second one ends the process at once, with exit code 1.
    """
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
    """Serves on `endpoint` while the block runs; at its end, calls in flight finish first.

    Args:
        endpoint: where.
        add_services: registers what is served.
        drain: seconds that calls in flight may still take at the end.

    Yields:
        The socket file, if it is one.

    Raises:
        PlatformError: the endpoint cannot be listened on.
    """
    server = grpc.aio.server()
    add_services(server)
    try:
        bound = bind_private(endpoint, server.add_insecure_port)
    except RuntimeError as error:
        raise PlatformError(
            f"cannot listen on {endpoint.address}: {error}",
            "Choose another --endpoint, or free this one.",
        ) from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(drain)
        if bound is not None:
            bound.remove()


def _traceback_summary(error: BaseException) -> str:
    """The call chain of `error` without its text, which may hold a value."""
    lines = []
    trace = error.__traceback__
    while trace:
        code = trace.tb_frame.f_code
        lines.append(f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}:{code.co_name}")
        trace = trace.tb_next
    return " > ".join(lines[-6:])
