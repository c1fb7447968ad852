"""Serves a built-in provider over gRPC, for clusters that run another driver.

Like upstream's providers, it also serves grpc.health.v1: Check returns SERVING. Watch and List are
not implemented.

Source: docs/reference/upstream-azure-provider.md#grpc-services
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import grpc

from keyferry.aio.clock import SystemClock
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.net.grpc_server import Context, abort
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import FieldCheck, decode_call, encode_result
from keyferry.providers.auditing import audited, subject_of
from keyferry.providers.expiry import ExpiryState
from keyferry.providers.known_fields.attributes import SPC_ATTRIBUTE
from keyferry.providers.known_fields.names import KUBELET_PREFIX
from keyferry.telemetry.audit import NullAuditLog
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from keyferry.aio.clock import Clock
    from keyferry.content import ObjectVersion
    from keyferry.formats.unknown_fields import UnknownField
    from keyferry.providers.api import MountCall, MountResult, Provider
    from keyferry.telemetry.audit import AuditLog

    CheckFields = Callable[[FieldCheck], Awaitable[tuple[UnknownField, ...]]]

_log = get_logger("provider")
_MAX_VOLUMES = 4096
"""Volumes whose object versions are remembered, for the audit log."""
_MAX_CLASSES = 1000
"""SecretProviderClasses whose fields were checked."""
_MAX_LOGGED_FILES = 5
_HEALTH = "grpc.health.v1.Health"
_SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}, the only response of the health service."""
_CHANNEL_OPTIONS = [
    ("grpc.default_authority", "localhost"),
    ("grpc.initial_reconnect_backoff_ms", 100),
]


def add_provider(
    server: grpc.aio.Server,
    provider: Provider,
    *,
    name: str,
    audit_log: AuditLog | None = None,
    clock: Clock | None = None,
    check_fields: CheckFields | None = None,
) -> None:
    """Register `provider` as v1alpha1.CSIDriverProvider, and its health service, on `server`.

    Args:
        server: the gRPC server.
        provider: the provider.
        name: its name in SecretProviderClasses.
        audit_log: records the accesses to vaults; None records nothing.
        clock: reads the time.
        check_fields: returns the fields that have no effect; None for no check.
    """
    servicer = _ProviderServicer(
        provider, name, audit_log or NullAuditLog(), clock or SystemClock(), check_fields
    )
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "v1alpha1.CSIDriverProvider",
                {
                    "Mount": grpc.unary_unary_rpc_method_handler(
                        servicer.mount,
                        request_deserializer=wire.MountRequest.FromString,
                        response_serializer=wire.MountResponse.SerializeToString,
                    ),
                    "Version": grpc.unary_unary_rpc_method_handler(
                        servicer.version,
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
    """Checks the health of a provider through its gRPC endpoint.

    Args:
        address: target name of the endpoint in gRPC's notation.
        seconds: timeout of a check.
    """

    def __init__(self, address: str, seconds: float) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._seconds = seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._channel.close()

    async def problem(self) -> str | None:
        """Return why the provider is unhealthy, or None if it is healthy."""
        check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{_HEALTH}/Check"
        )
        try:
            response = await check(b"", timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            return f"the provider does not respond ({error.code().name})"
        return None if response == _SERVING else "the provider reports that it is not serving"


def _log_owners(call: MountCall, result: MountResult) -> None:
    """Log that the protocol, which upstream has defined, cannot deliver the owners of files."""
    owned = sorted(file.path for file in result.files if file.owner is not None)
    if owned:
        _log.warning_once(
            "files belong to root, because the protocol of providers has no owners: fileOwner of"
            " objects has no effect, and that of the SecretProviderClass only in the Keyferry"
            " driver",
            spc=ObjectName(call.tenant, call.attributes.get(SPC_ATTRIBUTE, "")),
            files=", ".join(owned[:_MAX_LOGGED_FILES]),
        )


async def _check_health(_: bytes, context: Context) -> bytes:
    del context
    return _SERVING


class _ProviderServicer:
    def __init__(
        self,
        provider: Provider,
        name: str,
        audit_log: AuditLog,
        clock: Clock,
        check_fields: CheckFields | None,
    ) -> None:
        self._provider = provider
        self._check_fields = check_fields
        self._checked: BoundedDict[tuple[str, str], int] = BoundedDict(_MAX_CLASSES)
        self._name = name
        self._audit_log = audit_log
        self._clock = clock
        self._deduplicator = Deduplicator()
        self._volumes: BoundedDict[str, tuple[ObjectVersion, ...]] = BoundedDict(_MAX_VOLUMES)

    async def mount(self, message: wire.MountRequest, context: Context) -> wire.MountResponse:
        try:
            call = decode_call(message)
            await self._log_unknown_fields(call)
            result = await self._mount(call)
            self._log_expiries(result)
            self._log_missing(call, result)
            _log_owners(call, result)
            return encode_result(result)
        except Exception as error:  # noqa: BLE001  (process boundary)
            await abort(context, error, operation="mount")

    async def _mount(self, call: MountCall) -> MountResult:
        """Mount, and write the audit log.

        The protocol does not say that a call is a refresh, so it counts as one if this process has
        served the volume before.
        """
        previous = self._volumes.get(call.target_path)
        subject = subject_of(call, self._name, is_refresh=previous is not None)
        with audited(self._audit_log, subject, previous or (), clock=self._clock) as audit:
            audit.result = result = await self._provider.mount(call)
        self._volumes[call.target_path] = result.versions
        return result

    async def _log_unknown_fields(self, call: MountCall) -> None:
        """Log the fields that have no effect, once for each content of a SecretProviderClass.

        In a call, parameters and `volumeAttributes` of the pod are not distinguished.
        """
        if self._check_fields is None:
            return
        parameters = {
            name: value
            for name, value in call.attributes.items()
            if name != SPC_ATTRIBUTE and not name.startswith(KUBELET_PREFIX)
        }
        keys = tuple(call.credentials or ())
        spc = ObjectName(call.tenant, call.attributes.get(SPC_ATTRIBUTE, ""))
        content = hash((frozenset(parameters.items()), keys))
        if self._checked.touch(spc) == content:
            return
        fields = await self._check_fields(FieldCheck(parameters, secret_keys=keys))
        self._checked[spc] = content
        if fields:
            _log.warning_once(
                "the SecretProviderClass has fields without effect",
                spc=spc,
                fields=describe_unknown_fields(fields),
            )

    def _log_expiries(self, result: MountResult) -> None:
        """Log expiry warnings, which the protocol cannot carry."""
        now = self._clock.wall().timestamp()
        for expiry in result.expiries:
            if expiry.state(now) is not ExpiryState.FAR and self._deduplicator.should_notify(
                expiry, self._clock.monotonic()
            ):
                _log.warning(expiry.warning(now))

    def _log_missing(self, call: MountCall, result: MountResult) -> None:
        """Log which optional objects are missing, which the protocol cannot carry."""
        if not result.missing:
            return
        spc = ObjectName(call.tenant, call.attributes.get(SPC_ATTRIBUTE, ""))
        if self._deduplicator.should_notify((spc, result.missing), self._clock.monotonic()):
            named = ", ".join(f"{each.id} ({each.explanation})" for each in result.missing)
            _log.warning("optional objects are missing", spc=spc, objects=named)

    async def version(self, _: wire.VersionRequest, context: Context) -> wire.VersionResponse:
        try:
            version = await self._provider.version()
        except Exception as error:  # noqa: BLE001  (process boundary)
            await abort(context, error, operation="version")
        return wire.VersionResponse(
            version=version.api_version,
            runtime_name=version.runtime_name,
            runtime_version=version.runtime_version,
        )
