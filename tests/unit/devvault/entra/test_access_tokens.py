from __future__ import annotations

import pytest

from keyferry_devvault.crypto.jwt import JwtClaims
from keyferry_devvault.entra.access_tokens import AccessTokens, TokenRejection
from keyferry_devvault.entra.service_account_tokens import service_account_token
from keyferry_devvault.storage.data import DevVaultData
from tests.unit.devvault.calls import NOW

VAULT = "https://vault.azure.net"


@pytest.fixture
def tokens(dev: DevVaultData) -> AccessTokens:
    return AccessTokens(dev.signing_keys)


def issue(dev: DevVaultData, tokens: AccessTokens, resource: str = VAULT) -> str:
    return tokens.issue(
        dev.identities.add_managed("m", tenant="t1"), resource, now=NOW, lifetime=60
    )


@pytest.mark.parametrize("resource", [VAULT, VAULT + "/"])
def test_a_token_is_good_for_its_audience_and_tenant(
    dev: DevVaultData, tokens: AccessTokens, resource: str
) -> None:
    """It says who asks; a slash at the end of the resource does not matter."""
    token = issue(dev, tokens, resource)
    for _ in range(2):
        claims = tokens.validate(token, audience=VAULT, tenant="t1", now=NOW)
        assert isinstance(claims, JwtClaims)
        assert ("m", "t1") == (claims.appid, claims.tid)


@pytest.mark.parametrize(
    ("audience", "tenant", "later", "problem"),
    [
        ("https://vault.azure.cn", "t1", 0, "AKV10022: Invalid audience"),
        (VAULT, "t2", 0, "AKV10032: Invalid issuer"),
        (VAULT, "t1", 60, "TokenExpired"),
        (VAULT, "t1", -1, "TokenExpired"),
    ],
)
def test_a_token_is_good_for_nothing_else(
    dev: DevVaultData, tokens: AccessTokens, audience: str, tenant: str, later: float, problem: str
) -> None:
    """These are checked on every call, also of a token that was accepted before."""
    token = issue(dev, tokens)
    assert isinstance(tokens.validate(token, audience=VAULT, tenant="t1", now=NOW), JwtClaims)
    found = tokens.validate(token, audience=audience, tenant=tenant, now=NOW + later)
    assert isinstance(found, TokenRejection)
    assert problem in found.message


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é"])
def test_what_is_no_token_is_refused_without_quoting_it(tokens: AccessTokens, token: str) -> None:
    """The message is that of any malformed token."""
    found = tokens.validate(token, audience=VAULT, tenant="t1", now=NOW)
    assert found == TokenRejection(
        "AKV10046: The token is not accepted: it is not a well-formed JWT."
    )


def test_a_token_of_another_issuer_is_refused(dev: DevVaultData, tokens: AccessTokens) -> None:
    """A service-account token opens no vault, whatever its audience."""
    token = service_account_token(
        dev.signing_keys, "system:serviceaccount:a:b", audience=VAULT, now=NOW, lifetime=60
    )
    found = tokens.validate(token, audience=VAULT, tenant="t1", now=NOW)
    assert isinstance(found, TokenRejection)
    assert "key id is not in the JWKS" in found.message
