"""Builds the call to the provider for a SecretSync. [pure]

Source: docs/reference/upstream-provider-protocol.md#messages
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.content import ObjectVersion
from keyferry.formats.go_json import write_json
from keyferry.kubernetes.syncs.codec import format_time
from keyferry.providers.api import MountCall
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
    SPC_ATTRIBUTE,
)
from keyferry.providers.known_fields.names import KUBELET_PREFIX
from keyferry.records import replace
from keyferry.resilience.call_context import Purpose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.sync_controller.settings import ControllerPod

_TARGET_FOLDER = "/secretsyncs"
EXTERNAL_TARGET = "/mnt/secrets-store"
"""What upstream's controller sends to providers. Nothing is mounted."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a service account.

    Attributes:
        token: the token.
        expires_at: when it expires, by the clock of the API server.
        seconds: its lifetime.
    """

    token: str = field(repr=False)
    expires_at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Credentials:
    """With what a provider logs in.

    Attributes:
        tokens: of the service account, by audience.
        secrets: the data of the Secret with credentials; None without one.
    """

    tokens: Mapping[str, Token] = field(repr=False)
    secrets: Mapping[str, str] | None = field(repr=False)


def target_path_of(uid: str) -> str:
    """Return by what the providers know a SecretSync: its cached content, its dynamic secrets."""
    return f"{_TARGET_FOLDER}/{uid}"


def uid_of(target_path: str) -> str:
    """Return the uid of the SecretSync with this `target_path_of`."""
    return target_path.removeprefix(f"{_TARGET_FOLDER}/")


def mount_call(
    sync: SecretSync,
    spc: SecretProviderClass,
    credentials: Credentials,
    *,
    pod: ControllerPod | None = None,
) -> MountCall:
    """Build the call to a provider.

    Keys with the prefix of kubelet in the parameters are ignored, so that no SecretProviderClass
    names another service account.

    Args:
        sync: the SecretSync.
        spc: its SecretProviderClass.
        credentials: with what the provider logs in.
        pod: the pod of the controller, for an external provider. A built-in one knows the
            SecretSync itself by name and uid, so that its dynamic secrets are its own.
    """
    own = {k: v for k, v in spc.parameters.items() if not k.startswith(KUBELET_PREFIX)}
    ref = sync.ref
    attributes = {
        **own,
        SPC_ATTRIBUTE: spc.name,
        POD_NAMESPACE: ref.namespace,
        POD_NAME: pod.name if pod else ref.name,
        POD_UID: pod.uid if pod else ref.uid,
        SERVICE_ACCOUNT: sync.service_account,
    }
    if credentials.tokens:
        attributes[SERVICE_ACCOUNT_TOKENS] = _tokens_json(credentials.tokens)
    secrets = credentials.secrets
    if secrets is None and pod is not None:
        secrets = {}  # as upstream's controller
    return MountCall(
        attributes=attributes,
        secrets=secrets,
        target_path=EXTERNAL_TARGET if pod else target_path_of(ref.uid),
        purpose=Purpose.REFRESH if sync.status.sync_hash else Purpose.FIRST,
        current_versions=tuple(
            ObjectVersion(each.id, each.version) for each in sync.status.objects
        ),
    )


def as_upstream(call: MountCall) -> MountCall:
    """Return a call as upstream's controller makes it, for an external provider.

    It has no name of the SecretProviderClass, and no current versions.
    """
    attributes = {k: v for k, v in call.attributes.items() if k != SPC_ATTRIBUTE}
    return replace(call, attributes=attributes, current_versions=())


def _tokens_json(tokens: Mapping[str, Token]) -> str:
    """Return the tokens as kubelet sends them."""
    document = {
        audience: {
            "token": each.token,
            "expirationTimestamp": format_time(each.expires_at),
        }
        for audience, each in sorted(tokens.items())
    }
    return write_json(document).decode()
