"""The service-account tokens that kubelet sends along with a mount. [pure]

The claims of a token are read to tell identities apart and to explain a refusal. Nothing here
decides by them whether access is granted: whoever gets the token verifies its signature.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec needs it at run time

import msgspec

from keyferry.formats.base64url import decode_base64url


class BoundObjectClaim(msgspec.Struct, frozen=True):
    """A pod or a service account that a token is bound to."""

    name: str = ""
    uid: str = ""


class KubernetesClaims(msgspec.Struct, frozen=True):
    """The claim `kubernetes.io`."""

    namespace: str = ""
    pod: BoundObjectClaim = BoundObjectClaim()
    serviceaccount: BoundObjectClaim = BoundObjectClaim()


class ServiceAccountClaims(msgspec.Struct, frozen=True):
    """What is read of a token; empty where it does not say.

    Attributes:
        iss: the issuer.
        sub: the subject, `system:serviceaccount:NAMESPACE:NAME`.
        exp: when it ends, in seconds since 1970.
        kubernetes: the objects that it is bound to.
    """

    iss: str = ""
    sub: str = ""
    exp: float = 0.0
    kubernetes: KubernetesClaims = msgspec.field(default=KubernetesClaims(), name="kubernetes.io")


class _TokenEntry(msgspec.Struct, rename="camel"):
    token: str
    expiration_timestamp: datetime | None = None


def parse_tokens(attribute: str) -> dict[str, str] | None:
    """Audience -> token, out of the attribute `csi.storage.k8s.io/serviceAccount.tokens`.

    None when the text is not kubelet's JSON. It holds tokens, so no part of it is ever quoted.
    """
    try:
        entries = msgspec.json.decode(attribute, type=dict[str, _TokenEntry])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return {audience: entry.token for audience, entry in entries.items() if entry.token}


def read_claims(token: str) -> ServiceAccountClaims:
    """The claims of a JWT, unverified; empty ones where it is none."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        return msgspec.json.decode(decode_base64url(payload), type=ServiceAccountClaims)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return ServiceAccountClaims()


def subject_of(*, namespace: str, service_account: str) -> str:
    """The claim `sub` of the tokens of a service account."""
    return f"system:serviceaccount:{namespace}:{service_account}"
