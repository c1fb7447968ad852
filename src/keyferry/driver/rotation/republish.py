"""The call that a refresh makes without kubelet, and whether it can be made now. [pure]"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from keyferry.driver.request import KUBELET_PREFIX, PublishRequest
from keyferry.providers.api import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
    SERVICE_ACCOUNT_TOKENS,
)

if TYPE_CHECKING:
    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.kubernetes.cluster import CsiVolume, Pod

EPHEMERAL = "csi.storage.k8s.io/ephemeral"
TOKEN_MARGIN = timedelta(seconds=30)
"""A token that ends sooner is not used: the vault may look at it later, and by another clock."""


class _Token(msgspec.Struct):
    expirationTimestamp: str = ""  # noqa: N815 - the name of kubelet


_token_decoder: msgspec.json.Decoder[dict[str, _Token]] = msgspec.json.Decoder(dict[str, _Token])


def rebuild_request(volume: Volume, pod: Pod, csi_volume: CsiVolume) -> PublishRequest:
    """What kubelet would ask for that volume, but for tokens and secrets, which it alone has.

    What only kubelet says is not taken from whoever wrote the pod.
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
    """Whether a service-account token of the call is not to be used any more."""
    text = request.secrets.get(SERVICE_ACCOUNT_TOKENS) or request.context.get(
        SERVICE_ACCOUNT_TOKENS
    )
    if not text:
        return False
    try:
        ends = [
            datetime.fromisoformat(token.expirationTimestamp)
            for token in _token_decoder.decode(text).values()
            if token.expirationTimestamp
        ]
        return any(end - TOKEN_MARGIN <= now for end in ends)
    except (msgspec.DecodeError, ValueError, TypeError, UnicodeError):
        return False  # whoever uses it says what is wrong with it
