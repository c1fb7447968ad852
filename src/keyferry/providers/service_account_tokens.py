"""Reads the service-account tokens that kubelet sends with a mount call. [pure]

The claims of a token distinguish identities and explain rejected logins. They are not used to grant
access: the receiver of the token verifies its signature.
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
    """The claim `kubernetes.io`: the objects that a token is bound to."""

    namespace: str = ""
    pod: BoundObjectClaim = BoundObjectClaim()
    serviceaccount: BoundObjectClaim = BoundObjectClaim()


class ServiceAccountClaims(msgspec.Struct, frozen=True):
    """The claims of a token that are used; empty if the token lacks them.

    Attributes:
        iss: issuer.
        sub: subject, `system:serviceaccount:NAMESPACE:NAME`.
        exp: expiry in seconds since 1970.
        kubernetes: objects that the token is bound to.
    """

    iss: str = ""
    sub: str = ""
    exp: float = 0.0
    kubernetes: KubernetesClaims = msgspec.field(default=KubernetesClaims(), name="kubernetes.io")


class _TokenEntry(msgspec.Struct, rename="camel"):
    token: str
    expiration_timestamp: datetime | None = None


def parse_tokens(attribute: str) -> dict[str, str] | None:
    """Parse the attribute `csi.storage.k8s.io/serviceAccount.tokens`.

    The text contains tokens, so no message may quote it.

    Returns:
        The tokens by audience; None if the text is not kubelet's JSON.
    """
    try:
        entries = msgspec.json.decode(attribute, type=dict[str, _TokenEntry])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return {audience: entry.token for audience, entry in entries.items() if entry.token}


def read_claims(token: str) -> ServiceAccountClaims:
    """Return the claims of a JWT without verifying them; empty claims if it is not a JWT."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        return msgspec.json.decode(decode_base64url(payload), type=ServiceAccountClaims)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return ServiceAccountClaims()


def subject_of(*, namespace: str, service_account: str) -> str:
    """Return the claim `sub` of a service account's tokens."""
    return f"system:serviceaccount:{namespace}:{service_account}"
