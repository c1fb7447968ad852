"""Builds the publish request of a refresh without kubelet. [pure]"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from keyferry.driver.request import PublishRequest
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.known_fields.names import KUBELET_PREFIX

if TYPE_CHECKING:
    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.kubernetes.objects import CsiVolume, Pod

EPHEMERAL = "csi.storage.k8s.io/ephemeral"
TOKEN_MARGIN = timedelta(seconds=30)
"""A token that expires sooner is not used: the vault may check it later, by another clock."""


class _Token(msgspec.Struct):
    expirationTimestamp: str = ""  # noqa: N815 - the field name of kubelet


_token_decoder: msgspec.json.Decoder[dict[str, _Token]] = msgspec.json.Decoder(dict[str, _Token])


def rebuild_request(volume: Volume, pod: Pod, csi_volume: CsiVolume) -> PublishRequest:
    """Build kubelet's request for a volume, without tokens and secrets, which only kubelet has.

    Attributes of the pod with kubelet's prefix are dropped: only kubelet may set them.

    Args:
        volume: the published volume.
        pod: its pod.
        csi_volume: the entry of the pod that defines the volume.
    """
    own = {k: v for k, v in csi_volume.attributes.items() if not k.startswith(KUBELET_PREFIX)}
    context = {
        **own,
        POD_NAME: pod.name,
        POD_NAMESPACE: pod.namespace,
        POD_UID: pod.uid,
        SERVICE_ACCOUNT: pod.service_account,
        EPHEMERAL: "true",
    }
    return PublishRequest(
        target_path=volume.target_path,
        readonly=True,
        pod=volume.pod,
        class_name=volume.class_name,
        context=context,
    )


def has_expired_token(request: PublishRequest, now: datetime) -> bool:
    """Return whether a service-account token of `request` has expired at `now`, or soon will."""
    text = request.secrets.get(SERVICE_ACCOUNT_TOKENS) or request.context.get(
        SERVICE_ACCOUNT_TOKENS
    )
    if not text:
        return False
    try:
        expiries = [
            datetime.fromisoformat(token.expirationTimestamp)
            for token in _token_decoder.decode(text).values()
            if token.expirationTimestamp
        ]
        return any(expiry - TOKEN_MARGIN <= now for expiry in expiries)
    except (msgspec.DecodeError, ValueError, TypeError, UnicodeError):
        return False  # the provider reports what is wrong with the tokens
