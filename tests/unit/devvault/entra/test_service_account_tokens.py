from __future__ import annotations

import json

import pytest

from keyferry.errors import RequestInvalidError
from keyferry_devvault.crypto.jwt import parse_jwt, verify_jwt
from keyferry_devvault.entra.service_account_tokens import kubelet_tokens, service_account_token
from keyferry_devvault.model import CLUSTER_ISSUER
from keyferry_devvault.storage.data import DevVaultData
from keyferry_devvault.storage.signing_keys import SigningKeyName
from tests.unit.devvault.calls import NOW

SUBJECT = "system:serviceaccount:shop:web"


def test_kubelet_passes_one_token_for_each_audience(dev: DevVaultData) -> None:
    """The shape is that of the volume context: audience -> token and the moment of its end."""
    text = kubelet_tokens(
        dev.signing_keys, SUBJECT, audiences=["api://a", "b"], now=NOW, lifetime=60
    )
    tokens = json.loads(text)
    assert ["api://a", "b"] == list(tokens)
    assert "2023-11-14T22:14:20Z" == tokens["b"]["expirationTimestamp"]
    jwt = parse_jwt(tokens["b"]["token"])
    verify_jwt(jwt, dev.signing_keys.public_jwks(SigningKeyName.CLUSTER))
    assert (CLUSTER_ISSUER, SUBJECT, ("b",), NOW + 60) == (
        jwt.claims.iss,
        jwt.claims.sub,
        jwt.claims.audiences(),
        jwt.claims.exp,
    )


def test_a_negative_lifetime_makes_an_expired_token(dev: DevVaultData) -> None:
    """It was valid once: it begins before it ends."""
    text = service_account_token(dev.signing_keys, SUBJECT, audience="a", now=NOW, lifetime=-60)
    claims = parse_jwt(text).claims
    assert claims.nbf <= claims.exp == NOW - 60


@pytest.mark.parametrize(
    "subject", ["", "web", "system:serviceaccount:shop", "system:serviceaccount::web"]
)
def test_only_service_accounts_get_a_token(dev: DevVaultData, subject: str) -> None:
    """The message shows how to write the subject."""
    with pytest.raises(RequestInvalidError, match="is not the subject of a service account"):
        service_account_token(dev.signing_keys, subject, audience="a", now=NOW, lifetime=60)
