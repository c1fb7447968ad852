"""Calls an external provider over its socket with the v1alpha1 protocol.

Source: docs/reference/upstream-provider-protocol.md#provider-lookup
Source: docs/reference/upstream-provider-protocol.md#client-settings
Source: docs/reference/upstream-provider-protocol.md#mount-request
Source: docs/reference/upstream-provider-protocol.md#mount-response
Source: docs/reference/upstream-provider-protocol.md#version-and-health
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import grpc

from keyferry.errors import Code, ProviderReportedError, ProviderUnreachableError
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import (
    API_VERSION,
    MountCall,
    MountResult,
    ProviderVersion,
    decode_result,
    encode_call,
    undecodable_error,
)

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "v1alpha1.CSIDriverProvider"
CONNECT_SECONDS = 5.0
_HEALTH_SECONDS = 5.0
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": SERVICE}],
                "waitForReady": True,
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "1s",
                    "maxBackoff": "10s",
                    "backoffMultiplier": 1.1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


class ExternalProvider:
    """An external provider; connected to at the first call.

    Args:
        name: its name in SecretProviderClasses.
        socket: its unix socket.
        max_receive_bytes: the maximum size of a reply.
        connect_seconds: how long to wait for a provider that is restarting. Upstream waits as long
            as kubelet does (two minutes) without a message; Keyferry reports the dead socket.
    """

    def __init__(
        self,
        name: str,
        socket: Path,
        *,
        max_receive_bytes: int,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._name = name
        self._socket = socket
        self._connect_seconds = connect_seconds
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}",
            options=[
                ("grpc.default_authority", "localhost"),
                ("grpc.max_receive_message_length", max_receive_bytes),
                ("grpc.service_config", _SERVICE_CONFIG),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._mount = self._channel.unary_unary(
            f"/{SERVICE}/Mount",
            request_serializer=wire.MountRequest.SerializeToString,
            response_deserializer=wire.MountResponse.FromString,
        )
        self._version = self._channel.unary_unary(
            f"/{SERVICE}/Version",
            request_serializer=wire.VersionRequest.SerializeToString,
            response_deserializer=wire.VersionResponse.FromString,
        )

    async def mount(self, call: MountCall) -> MountResult:
        """Call Mount of the provider.

        Raises:
            ProviderUnreachableError: the provider does not respond.
            ProviderReportedError: the provider failed; its gRPC status is passed on.
        """
        await self._connect()
        try:
            reply = await self._mount(encode_call(call))
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        return decode_result(reply, provider=self._name)

    async def version(self) -> ProviderVersion:
        """Call Version of the provider, with a timeout of five seconds.

        Raises:
            ProviderUnreachableError: the provider does not respond.
            ProviderReportedError: the provider failed.
        """
        await self._connect()
        try:
            reply = await self._version(
                wire.VersionRequest(version=API_VERSION), timeout=_HEALTH_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        if reply is None:  # gRPC could not decode it
            raise undecodable_error(self._name)
        return ProviderVersion(reply.version, reply.runtime_name, reply.runtime_version)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _connect(self) -> None:
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._connect_seconds)
        except TimeoutError as error:
            raise ProviderUnreachableError(
                f"provider {self._name!r} does not respond: no server listens on {self._socket}",
                "Check the provider's pod on this node; kubelet retries the mount.",
            ) from error

    def _translate(self, error: grpc.aio.AioRpcError) -> ProviderReportedError:
        code = error.code().value[0]
        details = error.details() or error.code().name
        remedy = ""
        if code == Code.RESOURCE_EXHAUSTED and "larger than max" in details.lower():
            remedy = (
                "Raise --max-call-recv-msg-size (and the memory limit of the driver), "
                "or split the SecretProviderClass."
            )
        problem = f"provider {self._name!r} failed: {details}"
        return ProviderReportedError(problem, remedy, code=code, reason="GRPCProviderError")
