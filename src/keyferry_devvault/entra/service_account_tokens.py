"""Service-account tokens of the emulated cluster, as its API server issues them for kubelet."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from keyferry_devvault.crypto.jwt import sign_jwt
from keyferry_devvault.model import CLUSTER_ISSUER
from keyferry_devvault.parsing import parse_subject
from keyferry_devvault.storage.signing_keys import SigningKeyName, SigningKeys

if TYPE_CHECKING:
    from collections.abc import Iterable


def service_account_token(
    keys: SigningKeys, subject: str, *, audience: str, now: float, lifetime: int
) -> str:
    """Return a token for the service account `subject`.

    Args:
        keys: has the key of the cluster's issuer.
        subject: `system:serviceaccount:NAMESPACE:NAME`.
        audience: the only audience of the token.
        now: Unix time.
        lifetime: in seconds; negative for a token that has expired.

    Raises:
        RequestInvalidError: `subject` is not a service account.
    """
    namespace, name = parse_subject(subject)
    issued = int(min(now, now + lifetime))
    claims = {
        "iss": CLUSTER_ISSUER,
        "sub": subject,
        "aud": [audience],
        "iat": issued,
        "nbf": issued,
        "exp": int(now + lifetime),
        "jti": str(uuid.uuid4()),
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {
                "name": name,
                "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, subject)),
            },
        },
    }
    return sign_jwt(claims, keys.private_key(SigningKeyName.CLUSTER))


def kubelet_tokens(
    keys: SigningKeys, subject: str, *, audiences: Iterable[str], now: float, lifetime: int
) -> str:
    """Return what kubelet passes to a volume: JSON of audience to `{token, expirationTimestamp}`.

    Arguments and errors are those of `service_account_token`.
    """
    expires = datetime.fromtimestamp(int(now + lifetime), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tokens = {
        audience: {
            "token": service_account_token(
                keys, subject, audience=audience, now=now, lifetime=lifetime
            ),
            "expirationTimestamp": expires,
        }
        for audience in audiences
    }
    return msgspec.json.encode(tokens).decode()
