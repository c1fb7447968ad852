"""Computes the responses of `/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from keyferry.proto import csi_pb2 as csi

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS = 3.0
"""Timeout of the call to the own socket; the same as in upstream's liveness sidecar."""

_OPTIONS = [("grpc.default_authority", "localhost"), ("grpc.initial_reconnect_backoff_ms", 100)]


class Readiness:
    """Checks the health and readiness of the driver.

    Args:
        address: the gRPC address of the CSI socket.
        problems: each returns why the driver is not ready, or None.
    """

    def __init__(self, address: str, problems: tuple[Callable[[], str | None], ...]) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._problems = problems

    async def close(self) -> None:
        """Close the connection to the CSI socket."""
        await self._channel.close()

    async def health(self) -> str | None:
        """Call the driver over its own socket; return the problem, or None when it responds."""
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
