"""What the driver and a provider say to each other, and its wire form in both directions. [pure]

`MountCall` goes in, `MountResult` comes out; a provider is anything with `async mount(call) ->
result`. A built-in provider takes and returns these values as they are. Over a socket they travel
as the v1alpha1 provider protocol; the four codec functions below are the only place that knows that
form.

Nothing secret is in a `repr`: the contents of files, the attributes (they hold service-account
tokens) and the secrets are left out of it.

Source: docs/reference/upstream-provider-protocol.md#messages
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from keyferry.content import ObjectVersion, SecretFile
from keyferry.errors import Code, ProviderReportedError, RequestInvalidError
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.resilience.call_context import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.providers.expiry import ExpiringLease, Expiry

API_VERSION = "v1alpha1"
DEFAULT_FILE_MODE = 0o644
"""The mode that the driver proposes for files whose class says nothing."""

POD_NAME = "csi.storage.k8s.io/pod.name"
POD_NAMESPACE = "csi.storage.k8s.io/pod.namespace"
POD_UID = "csi.storage.k8s.io/pod.uid"
SERVICE_ACCOUNT = "csi.storage.k8s.io/serviceAccount.name"
SERVICE_ACCOUNT_TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"

T = TypeVar("T")

_json_strings = msgspec.json.Decoder(dict[str, str])
_json_strings_or_null: msgspec.json.Decoder[dict[str, str] | None] = msgspec.json.Decoder(
    dict[str, str] | None
)


@dataclass(frozen=True, slots=True)
class MountCall:
    """Asks a provider for the whole content of one volume.

    Attributes:
        attributes: the parameters of the class, overlaid by what kubelet says of the pod.
        secrets: the data of the pod's `nodePublishSecretRef`; None where the pod names none.
        target_path: where the volume is mounted; only providers of the old style write there
            themselves.
        permission: the mode for files whose class names none.
        current_versions: what the volume holds now. The upstream driver always sends none.
        purpose: why; not on the wire, so that a call that came over a socket is a first mount.
    """

    attributes: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] | None = field(default=None, repr=False)
    target_path: str = ""
    permission: int = DEFAULT_FILE_MODE
    current_versions: tuple[ObjectVersion, ...] = ()
    purpose: Purpose = Purpose.FIRST


@dataclass(frozen=True, slots=True)
class MountResult:
    """The whole content of one volume; files that are missing here vanish from it.

    Attributes:
        versions: at least one.
        files: none means that the provider wrote them itself, as providers of the old style do.
        expiries: of the objects for which the class wants a warning. The wire has no place for
            them: a provider on a socket logs those that are near.
        oldest_content_age: how long before the call the oldest of its content was fetched, for
            another pod; 0 where all of it was fetched for this call. Not on the wire.
    """

    versions: tuple[ObjectVersion, ...]
    files: tuple[SecretFile, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    oldest_content_age: float = 0.0


@dataclass(frozen=True, slots=True)
class ProviderVersion:
    """What a provider says of itself."""

    api_version: str
    runtime_name: str
    runtime_version: str


class Provider(Protocol):
    """Delivers the content of volumes from one kind of vault."""

    async def mount(self, call: MountCall) -> MountResult:
        """Fetch everything that `call` asks for, or raise a `KeyferryError`.

        Never a partial result.
        """

    async def version(self) -> ProviderVersion:
        """Tell the protocol and the product version."""

    def restore(self) -> frozenset[str]:
        """Take up what an earlier process held for volumes; returns their target paths.

        Called once, before any other. `volume_gone` tells which of them stand no more.
        """

    def volume_removed(self, target_path: str) -> None:
        """Hear that a volume is gone for good: what was made for it alone can be given back.

        Never fails, and waits for no vault.
        """

    def expiring_leases(self) -> tuple[ExpiringLease, ...]:
        """What is to be replaced now, by a refresh of its volume; asked every few seconds."""

    async def close(self) -> None:
        """Release connections; no call comes after this."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a mount will produce, and the names for it beside its path.

    Attributes:
        path: the path inside the volume, which is always a name.
        aliases: the object's own name in the vault, for example.
        object_name: the object as a person would call it, for messages: `secret db-password`.
    """

    path: str
    aliases: frozenset[str]
    object_name: str


# --- the wire form
# --------------------------------------------------------------------------------------------------


def encode_call(call: MountCall) -> wire.MountRequest:
    """The request message for `call`.

    A call without secrets sends the JSON text `null`, as upstream does.
    """
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
    """The call in `message`, decoded in the order attributes, secrets, permission.

    Raises:
        RequestInvalidError: a text is not the JSON that the protocol asks for. The text itself is
            not repeated.
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
    """The response message for `result`."""
    return wire.MountResponse(
        object_version=[wire.ObjectVersion(id=v.id, version=v.version) for v in result.versions],
        files=[wire.File(path=f.path, mode=f.mode, contents=f.contents) for f in result.files],
    )


def decode_result(message: wire.MountResponse, *, provider: str) -> MountResult:
    """The result in `message`, checked in upstream's order.

    Source: docs/reference/upstream-provider-protocol.md#mount-response

    Args:
        message: the reply of a provider.
        provider: its name, for messages.

    Raises:
        ProviderReportedError: the response carries an error code, or no object version.
    """
    if message.error.code:
        raise ProviderReportedError(
            f"provider {provider!r} reported error code {message.error.code!r}",
            f"The log of provider {provider!r} on this node says more.",
            code=Code.UNKNOWN,
            reason=message.error.code,
        )
    if not message.object_version:
        raise ProviderReportedError(
            f"provider {provider!r} reported no object at all (missing object versions)",
            "Check that the class lists at least one object.",
            code=Code.UNKNOWN,
            reason="GRPCProviderError",
        )
    return MountResult(
        versions=_decode_versions(message.object_version),
        files=tuple(SecretFile(f.path, f.mode, f.contents) for f in message.files),
    )


def _decode_versions(messages: Iterable[wire.ObjectVersion]) -> tuple[ObjectVersion, ...]:
    return tuple(ObjectVersion(m.id, m.version) for m in messages)


def _decode_json(decoder: msgspec.json.Decoder[T], text: str, name: str) -> T:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        # The text may hold tokens, and the decoder's message may quote it, so neither is repeated
        # or chained.
        problem = f"failed to unmarshal {name}, error: not a JSON object of strings"
        raise RequestInvalidError(problem, "Whoever called the provider must send one.") from None


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
