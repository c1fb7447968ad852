"""The interface between the driver and a provider, and its wire format. [pure]

A `Provider` turns a `MountCall` into a `MountResult`. Built-in providers exchange these values
directly. Over a socket they are encoded as messages of the v1alpha1 provider protocol by the four
codec functions of this module.

No `repr` contains a secret: file contents, attributes (which hold service-account tokens) and
secrets are excluded.

Source: docs/reference/upstream-provider-protocol.md#messages
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
from msgspec import Struct

from keyferry.accesses import VaultAccess
from keyferry.content import MissingObject, ObjectVersion, SecretFile
from keyferry.errors import Code, ProviderReportedError, RequestInvalidError
from keyferry.formats.volume_paths import MAX_ENTRIES, MAX_FILES
from keyferry.providers.expiry import ExpiringLease, Expiry
from keyferry.providers.known_fields.attributes import (
    POD_NAMESPACE,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.resilience.call_context import Caller, Purpose
from keyferry.resilience.freshness import RefreshSlot, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyferry.proto import provider_v1alpha1_pb2 as wire


API_VERSION = "v1alpha1"
DEFAULT_FILE_MODE = 0o644
"""Mode that the driver requests for files without a mode in the SecretProviderClass."""

T = TypeVar("T")

_json_strings = msgspec.json.Decoder(dict[str, str])
_json_strings_or_null: msgspec.json.Decoder[dict[str, str] | None] = msgspec.json.Decoder(
    dict[str, str] | None
)


@dataclass(frozen=True, slots=True)
class MountCall:
    """A request for the complete content of one volume.

    Attributes:
        attributes: parameters of the SecretProviderClass, overlaid with kubelet's attributes of the
            pod.
        secrets: data of the pod's `nodePublishSecretRef` Secret, with the service account tokens
            where kubelet sends them so (Kubernetes >= 1.35); None without both.
        target_path: mount path of the volume. Only legacy providers write there themselves.
        permission: permission bits for files without a mode in the SecretProviderClass.
        current_versions: versions of the objects in the volume. The upstream driver sends none.
        purpose: first mount or refresh. It is not on the wire: a call that arrives over a socket
            counts as a first mount.
        refresh_interval: seconds between two refreshes of this volume; None for the interval of
            the driver. Not on the wire.
        not_before: the content must have been validated after this time, in seconds of the
            monotonic clock of this machine; None without such a bound. Not on the wire.
    """

    attributes: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] | None = field(default=None, repr=False)
    target_path: str = ""
    permission: int = DEFAULT_FILE_MODE
    current_versions: tuple[ObjectVersion, ...] = ()
    purpose: Purpose = Purpose.FIRST
    refresh_interval: float | None = None
    not_before: float | None = None

    @property
    def wanted(self) -> Wanted:
        """How fresh cached content must be."""
        return Wanted(self.refresh_interval, self.not_before)

    @property
    def tenant(self) -> str:
        """The namespace of the pod; "" outside a cluster."""
        return self.attributes.get(POD_NAMESPACE, "")

    @property
    def credentials(self) -> Mapping[str, str] | None:
        """The data of the `nodePublishSecretRef` Secret only; None without one."""
        own = {k: v for k, v in (self.secrets or {}).items() if k != SERVICE_ACCOUNT_TOKENS}
        return own if own or self.secrets == {} else None

    @property
    def caller(self) -> Caller:
        """The pod's namespace and service account, between which vaults are shared fairly."""
        return Caller(self.tenant, self.attributes.get(SERVICE_ACCOUNT, ""))


class StaleContent(Struct, frozen=True):
    """Content that a pod starts with because a vault is unavailable.

    Attributes:
        vault: host of the vault.
        fetched_at: when the vault returned or confirmed the oldest of it, in seconds since 1970.
    """

    vault: str
    fetched_at: float


@dataclass(frozen=True, slots=True)
class MountResult:
    """The complete content of one volume. Files that are not listed are removed from it.

    Attributes:
        versions: versions of the objects, at least one.
        files: content of the volume; none if a legacy provider wrote the files itself.
        expiries: when objects expire, as far as the provider knows. They are not on the wire: a
            provider behind a socket logs the warnings.
        oldest_content_age: seconds between the fetch of the oldest cached object and this call; 0
            if everything was fetched for this call. Not on the wire.
        refresh_slots: when the identities of the volume are to be refreshed; empty when the
            provider does not know. Not on the wire.
        accesses: what was read, for the audit log. Not on the wire.
        stale: the stale content that it includes, by vault. Not on the wire.
        missing: the optional objects that the vault does not have; each has an entry in `versions`
            with the version `missing`. Not on the wire.
        is_leased: whether it includes dynamic secrets that this process renews. Not on the wire.
    """

    versions: tuple[ObjectVersion, ...]
    files: tuple[SecretFile, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    oldest_content_age: float = 0.0
    refresh_slots: tuple[RefreshSlot, ...] = ()
    accesses: tuple[VaultAccess, ...] = field(default=(), compare=False)
    stale: tuple[StaleContent, ...] = ()
    missing: tuple[MissingObject, ...] = ()
    is_leased: bool = False


class ProviderVersion(Struct, frozen=True):
    """Protocol version, name and product version of a provider."""

    api_version: str
    runtime_name: str
    runtime_version: str


class Provider(Protocol):
    """Fetches the content of volumes from one kind of vault."""

    async def mount(self, call: MountCall) -> MountResult:
        """Fetch all objects that `call` requests. There are no partial results.

        Raises:
            KeyferryError: an object could not be delivered.
        """

    async def version(self) -> ProviderVersion:
        """Return the protocol version and the product version."""

    def restore(self) -> frozenset[str]:
        """Restore leases of volumes from an earlier process.

        Called once, before any other method. The driver then calls `volume_removed` for each volume
        that no longer exists.

        Returns:
            The target paths of the volumes that have leases.
        """

    def volume_removed(self, target_path: str) -> None:
        """Revoke in the background whatever was created for this volume only.

        Never raises, and does not wait for the vault.
        """

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """Return the leases that only a refresh of their volume can replace.

        The driver polls this every few seconds.
        """

    async def close(self) -> None:
        """Close connections. No method is called afterwards."""


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """Mappings whose unknown fields are asked for.

    Attributes:
        parameters: of a SecretProviderClass, or `volumeAttributes` of a pod.
        path: of `parameters`, for messages.
        secret_keys: of the Secret that `nodePublishSecretRef` names; no values.
    """

    parameters: Mapping[str, str] = field(repr=False)
    path: str = "spec.parameters"
    secret_keys: tuple[str, ...] = ()


class PodTokenRequest(Struct, frozen=True):
    """A request for a service-account token that is bound to a pod.

    Attributes:
        namespace: of the pod.
        service_account: of the pod.
        pod_name: the name of the pod.
        pod_uid: the uid of the pod.
        audience: of the token; "" for the default of the API server.
    """

    namespace: str
    service_account: str
    pod_name: str
    pod_uid: str
    audience: str


# --- Wire format ----------------------------------------------------------------------------------


def encode_call(call: MountCall) -> wire.MountRequest:
    """Encode `call` as a protocol message.

    A call without secrets is encoded as the JSON text `null`, like upstream.
    """
    from keyferry.proto import provider_v1alpha1_pb2 as wire

    return wire.MountRequest(
        attributes=msgspec.json.encode(dict(sorted(call.attributes.items()))).decode(),
        secrets=msgspec.json.encode(
            None if call.secrets is None else dict(sorted(call.secrets.items()))
        ).decode(),
        target_path=call.target_path,
        permission=str(call.permission),
        current_object_version=[
            wire.ObjectVersion(id=v.id, version=v.version) for v in call.current_versions
        ],
    )


def decode_call(message: wire.MountRequest) -> MountCall:
    """Decode a protocol message: first the attributes, then the secrets, then the permission.

    Raises:
        RequestInvalidError: a field is not the JSON that the protocol requires. The message does
            not quote it.
    """
    attributes = _decode_json(_json_strings, message.attributes, "attributes")
    return MountCall(
        attributes=attributes,
        secrets=_decode_json(_json_strings_or_null, message.secrets, "secrets"),
        target_path=message.target_path,
        permission=_decode_permission(message.permission),
        current_versions=_decode_versions(message.current_object_version),
    )


def encode_result(result: MountResult) -> wire.MountResponse:
    """Encode `result` as a protocol message."""
    from keyferry.proto import provider_v1alpha1_pb2 as wire

    return wire.MountResponse(
        object_version=[wire.ObjectVersion(id=v.id, version=v.version) for v in result.versions],
        files=[wire.File(path=f.path, mode=f.mode, contents=f.contents) for f in result.files],
    )


def decode_result(message: wire.MountResponse | None, *, provider: str) -> MountResult:
    """Decode a provider's response, with its checks in upstream's order.

    Source: docs/reference/upstream-provider-protocol.md#mount-response

    Args:
        message: response of a provider; None if gRPC could not decode it.
        provider: name of the provider, for messages.

    Raises:
        ProviderReportedError: the response cannot be decoded, has an error code, no object
            version, or too many files.
    """
    if message is None:
        raise undecodable_error(provider)
    if message.error.code:
        raise ProviderReportedError(
            f"provider {provider!r} reported error code {message.error.code!r}",
            f"See the log of provider {provider!r} on this node.",
            code=Code.UNKNOWN,
            reason=message.error.code,
        )
    if not message.object_version:
        raise ProviderReportedError(
            f"provider {provider!r} returned no object versions (missing object versions)",
            "Check that the SecretProviderClass lists at least one object.",
            code=Code.UNKNOWN,
            reason="GRPCProviderError",
        )
    if len(message.files) > MAX_FILES or len(message.object_version) > MAX_ENTRIES:
        raise ProviderReportedError(
            f"provider {provider!r} returned {len(message.files)} files and"
            f" {len(message.object_version)} object versions; a volume has at most {MAX_FILES}"
            f" files and {MAX_ENTRIES} object versions",
            "Split the objects into several volumes.",
            code=Code.RESOURCE_EXHAUSTED,
            reason="GRPCProviderError",
        )
    return MountResult(
        versions=_decode_versions(message.object_version),
        files=tuple(SecretFile(f.path, f.mode, f.contents) for f in message.files),
    )


def undecodable_error(provider: str) -> ProviderReportedError:
    """Return the error for a response of `provider` that is not a message of the protocol."""
    return ProviderReportedError(
        f"provider {provider!r} returned a response that cannot be decoded",
        f"Check that the socket belongs to provider {provider!r}, and that the provider implements"
        " the protocol v1alpha1.",
        code=Code.UNKNOWN,
        reason="GRPCProviderError",
    )


def _decode_versions(messages: Iterable[wire.ObjectVersion]) -> tuple[ObjectVersion, ...]:
    return tuple(ObjectVersion(m.id, m.version) for m in messages)


def _decode_json(decoder: msgspec.json.Decoder[T], text: str, name: str) -> T:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        # The text may contain tokens and the decoder's message may quote it: chain neither.
        problem = f"failed to unmarshal {name}, error: not a JSON object of strings"
        remedy = "The caller of the provider must send a JSON object of strings."
        raise RequestInvalidError(problem, remedy) from None


def _decode_permission(text: str) -> int:
    try:
        permission = msgspec.json.decode(text, type=int)
    except msgspec.DecodeError:
        permission = -1
    if not 0 <= permission <= 0o777:
        raise RequestInvalidError(
            f"failed to unmarshal file permission, error: {text[:20]!r} is not a mode",
            "Send a decimal JSON number from 0 to 511, such as 420 for 0644.",
        )
    return permission
