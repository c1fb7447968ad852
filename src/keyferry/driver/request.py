"""A publish call, parsed once, and the provider call that it becomes. [pure]

Source: docs/reference/upstream-driver.md#publish-request
Source: docs/reference/upstream-driver.md#nodepublishvolume
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, Code, RequestInvalidError
from keyferry.kubernetes import PodRef, SecretProviderClass
from keyferry.providers.api import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT_TOKENS,
    MountCall,
)
from keyferry.resilience.call_context import Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.proto import csi_pb2 as csi

SPC_ATTRIBUTE = "secretProviderClass"
KUBELET_PREFIX = "csi.storage.k8s.io/"
"""Of the attributes that kubelet alone may set."""
_MAX_GROUP_DIGITS = 10
"""Of the largest id that Linux has, 2^32 - 1."""


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """What one publish is to do.

    Attributes:
        target_path: where the volume goes, absolute.
        readonly: must be true; checked by the story, after the class, in upstream's order.
        pod: whose volume it is.
        class_name: the SecretProviderClass, in the namespace of the pod.
        context: everything that kubelet says, service-account tokens included.
        secrets: the data of the pod's `nodePublishSecretRef`; empty without one.
        group: the `fsGroup` of the pod, to whom its volume belongs.
    """

    target_path: str
    readonly: bool
    pod: PodRef
    class_name: str
    context: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    group: int | None = None


@dataclass(frozen=True, slots=True)
class UnpublishRequest:
    """Which volume is to go."""

    target_path: str


def parse_publish(message: csi.NodePublishVolumeRequest) -> PublishRequest:
    """The request in `message`.

    Raises:
        RequestInvalidError: INVALID_ARGUMENT, in the order capability, volume id, target path,
            context, group; UNKNOWN when the pod names no class.
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
        error = RequestInvalidError(
            f"the volume names no SecretProviderClass:"
            f" volumeAttributes.{SPC_ATTRIBUTE} is missing or empty",
            f"Set volumeAttributes.{SPC_ATTRIBUTE} in the csi volume of the pod.",
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
    """The request in `message`.

    Raises:
        RequestInvalidError: no volume id, or no usable target path.
    """
    if not message.volume_id:
        raise _missing("volume_id")
    return UnpublishRequest(_target_path(message.target_path))


def parse_stage(message: csi.NodeStageVolumeRequest) -> None:
    """Raises RequestInvalidError unless id, path and capability are there, in this order."""
    if not message.volume_id:
        raise _missing("volume_id")
    if not message.staging_target_path:
        raise _missing("staging_target_path")
    if not message.HasField("volume_capability"):
        raise _missing("volume_capability")


def parse_unstage(message: csi.NodeUnstageVolumeRequest) -> None:
    """Raises RequestInvalidError unless id and path are there."""
    if not message.volume_id:
        raise _missing("volume_id")
    if not message.staging_target_path:
        raise _missing("staging_target_path")


def require_readonly(request: PublishRequest) -> None:
    """Raises RequestInvalidError unless the volume is asked for read-only."""
    if not request.readonly:
        raise RequestInvalidError(
            "the volume is not read-only, and secrets are delivered read-only alone",
            "Set readOnly: true in the csi volume of the pod.",
        )


def mount_call(
    request: PublishRequest, spc: SecretProviderClass, purpose: Purpose = Purpose.FIRST
) -> MountCall:
    """What the provider is asked: the class's parameters, overlaid by all that kubelet says.

    Kubelet's own keys come from kubelet alone: a class that sets one, say a service-account token
    where kubelet sends none, is not heard. Upstream lets it through.

    Service-account tokens come from the secrets first (Kubernetes 1.35 and newer can put them
    there), then from the context.
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
    """The id of a group, as kubelet sends it in decimal; None for none."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_GROUP_DIGITS):
        raise RequestInvalidError(
            f"volume_mount_group {text[:20]!r} is not the number of a group",
            "Kubelet sends the fsGroup of the pod; check who else calls the driver.",
        )
    return int(text)


def _target_path(path: str) -> str:
    if not path:
        raise _missing("target_path")
    if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise RequestInvalidError(
            f"target_path {path!r} is not an absolute path without '..'",
            "Kubelet sends such a path; check who else calls the driver.",
        )
    return posixpath.normpath("/" + path.lstrip("/"))


# --- The checks of a SecretProviderClass before a mount begins ------------------------------------

_PROVIDER_NAME = re.compile(r"[A-Za-z0-9_-]{1,30}")


def check_class(spc: SecretProviderClass) -> SecretProviderClass:
    """The same class, now known to name a provider that could exist and to say something to it.

    Raises:
        ClassInvalidError: `spec.provider` is empty or cannot be a provider, or `spec.parameters` is
            empty.
    """
    who = f"SecretProviderClass {spc.namespace}/{spc.name}"
    if not spc.provider:
        raise ClassInvalidError(
            f"{who} names no provider: spec.provider is empty",
            "Set spec.provider to the provider of your vault, for example azure.",
        )
    if not _PROVIDER_NAME.fullmatch(spc.provider):
        raise ClassInvalidError(
            f"{who}: spec.provider {spc.provider[:60]!r} cannot be the name of a provider",
            "A name has at most 30 letters, digits, '_' and '-'.",
        )
    if not spc.parameters:
        raise ClassInvalidError(
            f"{who} says nothing to its provider: spec.parameters is empty",
            f"Set spec.parameters: the vault and the objects, as provider {spc.provider!r} asks.",
        )
    return spc
