"""Parses CSI requests and builds the call to the provider. [pure]

Source: docs/reference/upstream-driver.md#publish-request
Source: docs/reference/upstream-driver.md#nodepublishvolume
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import (
    AuthorError,
    Code,
    RequestInvalidError,
    Stage,
    excerpt,
)
from keyferry.formats.unknown_fields import FieldTable, UnknownField, correct_missing, limited
from keyferry.kubernetes import PodRef, SecretProviderClass
from keyferry.providers.api import MountCall
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT_TOKENS,
    SPC_ATTRIBUTE,
)
from keyferry.providers.known_fields.names import KUBELET_ATTRIBUTES, KUBELET_PREFIX
from keyferry.resilience.call_context import Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.proto import csi_pb2 as csi

_MAX_GROUP_DIGITS = 10
"""The digits of 2^32 - 1, the largest group id of Linux."""
_MAX_NAMED_ATTRIBUTES = 10


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A parsed NodePublishVolume request.

    Attributes:
        target_path: the mount point; absolute.
        readonly: must be true; checked by the publisher after the SecretProviderClass, in
            upstream's order.
        pod: the pod of the volume.
        class_name: the SecretProviderClass, in the namespace of the pod.
        context: the volume context of kubelet, including service-account tokens.
        secrets: the data of the pod's `nodePublishSecretRef`; empty without one.
        group: the `fsGroup` of the pod; None without one.
    """

    target_path: str
    readonly: bool
    pod: PodRef
    class_name: str
    context: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    group: int | None = None


class UnpublishRequest(Struct, frozen=True):
    """A parsed NodeUnpublishVolume request."""

    target_path: str


def parse_publish(message: csi.NodePublishVolumeRequest) -> PublishRequest:
    """Parse a NodePublishVolume request.

    Raises:
        RequestInvalidError: INVALID_ARGUMENT, checked in the order capability, volume id, target
            path, context, group; UNKNOWN when the pod names no SecretProviderClass.
    """
    if not message.HasField("volume_capability"):
        raise _missing("volume_capability")
    if not message.volume_id:
        raise _missing("volume_id")
    target_path = _target_path(message.target_path)
    if not message.volume_context:
        raise _missing("volume_context")
    context = dict(message.volume_context)
    if not context.get(SPC_ATTRIBUTE):
        remedy = f"Set volumeAttributes.{SPC_ATTRIBUTE} in the csi volume of the pod."
        table = FieldTable((SPC_ATTRIBUTE,), synonyms={"spc": SPC_ATTRIBUTE})
        written, remedy = correct_missing(table, (SPC_ATTRIBUTE,), context, remedy)
        error = RequestInvalidError(
            f"the volume has no SecretProviderClass:"
            f" volumeAttributes.{SPC_ATTRIBUTE} is missing or empty{written}",
            remedy,
        )
        error.code = Code.UNKNOWN  # upstream's code for this one
        raise error
    return PublishRequest(
        target_path=target_path,
        readonly=message.readonly,
        pod=PodRef(
            namespace=context.get(POD_NAMESPACE, ""),
            name=context.get(POD_NAME, ""),
            uid=context.get(POD_UID, ""),
        ),
        class_name=context[SPC_ATTRIBUTE],
        context=context,
        secrets=dict(message.secrets),
        group=_group(message.volume_capability.mount.volume_mount_group),
    )


def parse_unpublish(message: csi.NodeUnpublishVolumeRequest) -> UnpublishRequest:
    """Parse a NodeUnpublishVolume request.

    Raises:
        RequestInvalidError: the volume id is missing, or the target path is missing or invalid.
    """
    if not message.volume_id:
        raise _missing("volume_id")
    return UnpublishRequest(_target_path(message.target_path))


def parse_stage(message: csi.NodeStageVolumeRequest) -> None:
    """Check a NodeStageVolume request.

    Raises:
        RequestInvalidError: volume id, path or capability is missing, checked in this order.
    """
    if not message.volume_id:
        raise _missing("volume_id")
    if not message.staging_target_path:
        raise _missing("staging_target_path")
    if not message.HasField("volume_capability"):
        raise _missing("volume_capability")


def parse_unstage(message: csi.NodeUnstageVolumeRequest) -> None:
    """Check a NodeUnstageVolume request.

    Raises:
        RequestInvalidError: volume id or path is missing.
    """
    if not message.volume_id:
        raise _missing("volume_id")
    if not message.staging_target_path:
        raise _missing("staging_target_path")


def volume_fields(request: PublishRequest) -> tuple[dict[str, str], tuple[UnknownField, ...]]:
    """Return the `volumeAttributes` that override parameters, and the misspelled ones of kubelet.

    Kubelet may send attributes that are not known yet, so its prefix alone is not wrong. Both are
    sorted: those of gRPC have no order.
    """
    own = {
        name: value
        for name, value in sorted(request.context.items())
        if name != SPC_ATTRIBUTE and not name.startswith(KUBELET_PREFIX)
    }
    kubelet = sorted(name for name in request.context if name.startswith(KUBELET_PREFIX))
    names = [name.removeprefix(KUBELET_PREFIX) for name in kubelet]
    misspelled = tuple(
        UnknownField(
            "volumeAttributes", f"{KUBELET_PREFIX}{found.name}", KUBELET_PREFIX + found.suggestion
        )
        for found in limited(_KUBELET_FIELDS.find_misspelled("", names))
    )
    return own, misspelled


_KUBELET_FIELDS = FieldTable(name.removeprefix(KUBELET_PREFIX) for name in KUBELET_ATTRIBUTES)


def require_readonly(request: PublishRequest) -> None:
    """Check that the volume is read-only.

    Raises:
        RequestInvalidError: it is not.
    """
    if not request.readonly:
        raise RequestInvalidError(
            "the volume is not read-only",
            "Set readOnly: true in the csi volume of the pod.",
        )


def check_attributes(request: PublishRequest) -> None:
    """Check that the pod overrides no parameter, for `--allow-attribute-overrides=false`.

    Only the name of the SecretProviderClass and the attributes of kubelet are allowed. An attribute
    that the SecretProviderClass does not set is refused, too: it would replace a default.

    Raises:
        AuthorError: the pod sets another attribute.
    """
    others = sorted(
        name
        for name in request.context
        if name != SPC_ATTRIBUTE and not name.startswith(KUBELET_PREFIX)
    )
    if others:
        names = ", ".join(repr(excerpt(name)) for name in others[:_MAX_NAMED_ATTRIBUTES])
        more = len(others) - _MAX_NAMED_ATTRIBUTES
        raise AuthorError(
            f"the pod sets volumeAttributes that override its SecretProviderClass: {names}"
            + (f" and {more} more" if more > 0 else ""),
            "Move them to spec.parameters of the SecretProviderClass; this cluster runs the driver"
            " with --allow-attribute-overrides=false.",
            stage=Stage.REQUEST,
        )


def mount_call(
    request: PublishRequest, spc: SecretProviderClass, purpose: Purpose = Purpose.FIRST
) -> MountCall:
    """Build the provider call: the parameters of `spc`, overridden by kubelet's volume context.

    1. Keys with kubelet's prefix are taken only from kubelet. A SecretProviderClass that sets one,
       for example a service-account token where kubelet sends none, is ignored; upstream accepts
       it.
    2. Service-account tokens are taken from the secrets (Kubernetes >= 1.35 can send them there),
       else from the context.

    Args:
        request: the publish request.
        spc: its SecretProviderClass.
        purpose: whether this is a first mount or a refresh.
    """
    own = {k: v for k, v in spc.parameters.items() if not k.startswith(KUBELET_PREFIX)}
    attributes = {**own, **request.context}
    tokens = request.secrets.get(SERVICE_ACCOUNT_TOKENS) or request.context.get(
        SERVICE_ACCOUNT_TOKENS
    )
    if tokens:
        attributes[SERVICE_ACCOUNT_TOKENS] = tokens
    return MountCall(
        attributes=attributes,
        secrets=request.secrets or None,
        target_path=request.target_path,
        purpose=purpose,
    )


def _missing(name: str) -> RequestInvalidError:
    return RequestInvalidError(f"{name} is missing in the request")


def _group(text: str) -> int | None:
    """Parse the group id that kubelet sends in decimal; None for an empty text."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_GROUP_DIGITS):
        raise RequestInvalidError(
            f"volume_mount_group {text[:20]!r} is not a numeric group id",
            "Kubelet sends the fsGroup of the pod; check which other client calls the driver.",
        )
    return int(text)


def _target_path(path: str) -> str:
    if not path:
        raise _missing("target_path")
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise RequestInvalidError(
            f"target_path {path!r} is not an absolute path without '..'",
            "Kubelet sends such a path; check which other client calls the driver.",
        )
    if "//" in path or "/./" in path or path.endswith(("/", "/.")):
        return posixpath.normpath("/" + path.lstrip("/"))
    return path
