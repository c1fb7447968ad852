"""The gRPC front of any built-in provider, for clusters that run another driver.

Beside the provider protocol there is the health service that upstream's providers have
(grpc.health.v1): Check says SERVING, Watch and List are not there.

Source: docs/reference/upstream-azure-provider.md#grpc-services
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

import grpc

from keyferry.net.grpc_server import Context, abort
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import decode_call, encode_result
from keyferry.providers.expiry import ExpiryState
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.api import MountResult, Provider

_log = get_logger("provider")
_HEALTH = "grpc.health.v1.Health"
_SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}, the only answer that there is."""
_CHANNEL_OPTIONS = [
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 100),
]


def add_provider(server: grpc.aio.Server, provider: Provider) -> None:
    """Serves `provider` as v1alpha1.CSIDriverProvider, and its health, on `server`."""
    front = _ProviderServicer(provider)
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "v1alpha1.CSIDriverProvider",
                {
                    "Mount": grpc.unary_unary_rpc_method_handler(
                        front.mount,
                        request_deserializer=wire.MountRequest.FromString,
                        response_serializer=wire.MountResponse.SerializeToString,
                    ),
                    "Version": grpc.unary_unary_rpc_method_handler(
                        front.version,
                        request_deserializer=wire.VersionRequest.FromString,
                        response_serializer=wire.VersionResponse.SerializeToString,
                    ),
                },
            ),
            grpc.method_handlers_generic_handler(
                _HEALTH, {"Check": grpc.unary_unary_rpc_method_handler(_check_health)}
            ),
        ]
    )


class HealthProbe:
    """Asks a provider for its health as others do: over its endpoint.

    Args:
        address: of the endpoint, as gRPC spells it.
        seconds: how long it may take to answer.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._seconds = seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends the connection."""
        await self._channel.close()

    async def problem(self) -> str | None:
        """What is wrong; None when it serves."""
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{_HEALTH}/Check"
        )
        try:
            answer = await check(b"", timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            return f"the provider does not answer ({error.code().name})"
        return None if answer == _SERVING else "the provider does not serve"


async def _check_health(_: bytes, context: Context) -> bytes:
    del context
    return _SERVING


class _ProviderServicer:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._deduplicator = Deduplicator()

    async def mount(self, message: wire.MountRequest, context: Context) -> wire.MountResponse:
        try:
            result = await self._provider.mount(decode_call(message))
            self._log_expiries(result)
            return encode_result(result)
        except Exception as error:  # noqa: BLE001  (the edge of the process)
            await abort(context, error, operation="mount")

    def _log_expiries(self, result: MountResult) -> None:
        """Log what the wire has no place for."""
        now = time.time()
        for expiry in result.expiries:
            if expiry.state(now) is not ExpiryState.FAR and self._deduplicator.should_notify(
                expiry
            ):
                _log.warning(expiry.warning(now))

    async def version(self, _: wire.VersionRequest, context: Context) -> wire.VersionResponse:
        try:
            version = await self._provider.version()
        except Exception as error:  # noqa: BLE001  (the edge of the process)
            await abort(context, error, operation="version")
        return wire.VersionResponse(
            version=version.api_version,
            runtime_name=version.runtime_name,
            runtime_version=version.runtime_version,
        )
