"""Computes the responses of `/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from keyferry.proto import csi_pb2 as csi

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.driver.volumes.operations import VolumeOperations

PROBE_SECONDS = 3.0
"""Timeout of each check; the same as in upstream's liveness sidecar."""

_OPTIONS = [("grpc.default_authority", "localhost"), ("grpc.initial_reconnect_backoff_ms", 100)]


class Readiness:
    """Checks the health and readiness of the driver.

    Args:
        address: the gRPC address of the CSI socket.
        operations: mount and unmount volumes on threads, of which one must become free.
        problems: each returns why the driver is not ready, or None.
        fatal: returns why the driver must be restarted, or None.
    """

    def __init__(
        self,
        address: str,
        operations: VolumeOperations,
        problems: tuple[Callable[[], str | None], ...],
        *,
        fatal: Callable[[], str | None],
    ) -> None:
        self._fatal = fatal
        self._operations = operations
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._problems = problems

    async def close(self) -> None:
        """Close the connection to the CSI socket."""
        await self._channel.close()

    async def health(self) -> str | None:
        """Return why the driver must be restarted, or None.

        1. It does not respond on its own socket.
        2. It can mount and unmount no volume, because all threads for that are stuck.
        3. It can start no child process.
        """
        if problem := self._fatal():
            return problem
        problems = await asyncio.gather(
            self._socket_problem(), self._operations.problem(PROBE_SECONDS)
        )
        return next((problem for problem in problems if problem), None)

    async def _socket_problem(self) -> str | None:
        probe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            "/csi.v1.Identity/Probe"
        )
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                response = await probe(b"", timeout=PROBE_SECONDS)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "TIMEOUT"
            return f"the CSI socket does not respond ({code})"
        return None if csi.ProbeResponse.FromString(response).ready.value else "not ready"

    async def readiness(self) -> str | None:
        """Return why pods cannot be served yet, or None."""
        for find_problem in self._problems:
            if problem := find_problem():
                return problem
        return await self.health()
