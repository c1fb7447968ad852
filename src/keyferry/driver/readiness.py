"""What `/healthz` and `/readyz` answer: in words, why not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from keyferry.proto import csi_pb2 as csi

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_SECONDS = 3.0
"""How long the driver may take to answer itself, as the liveness sidecar of upstream waits."""

_OPTIONS = [("grpc.default_authority", "localhost"), ("grpc.initial_reconnect_backoff_ms", 100)]


class Readiness:
    """The state of this driver, as others may ask for it.

    Args:
        address: where CSI is served, as gRPC spells it.
        problems: each tells why the driver is not ready; None when it is.
    """

    def __init__(self, address: str, problems: tuple[Callable[[], str | None], ...]) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._problems = problems

    async def close(self) -> None:
        """Ends the connection to ourselves."""
        await self._channel.close()

    async def health(self) -> str | None:
        """Calls the driver over its own socket; None when it answers, else what happened."""
        probe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            "/csi.v1.Identity/Probe"
        )
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                answer = await probe(b"", timeout=PROBE_SECONDS)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else "TIMEOUT"
            return f"the CSI socket does not answer ({code})"
        return None if csi.ProbeResponse.FromString(answer).ready.value else "not ready"

    async def readiness(self) -> str | None:
        """Why pods cannot be served yet; None when they can."""
        for problem in self._problems:
            if said := problem():
                return said
        return await self.health()
