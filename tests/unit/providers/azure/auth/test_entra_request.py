"""keyferry.providers.azure.auth.entra_request: where a token is asked for, and with what."""

from __future__ import annotations

import base64
import json

import pytest

from keyferry.formats.certs.client_certificate import AssertionRequest, sign_assertion
from keyferry.providers.azure.auth.entra_request import (
    ASSERTION_LIFETIME_SECONDS,
    assertion_claims,
    assertion_form,
    secret_form,
    token_url,
)
from tests.fakes.certificates import issue_certificate, new_rsa_key

URL = "https://login.test/t/oauth2/v2.0/token"
ISSUED = issue_certificate("app", new_rsa_key())


@pytest.mark.parametrize(
    ("authority", "tenant", "url"),
    [
        ("https://login.test", "t", URL),
        ("https://login.test/", "t", URL),
        ("https://login.test:8443/a/b", "t", "https://login.test:8443/a/b/t/oauth2/v2.0/token"),
        ("https://login.test", "T.Example", "https://login.test/T.Example/oauth2/v2.0/token"),
        ("https://adfs.test", "adfs", "https://adfs.test/adfs/oauth2/token"),
        ("https://adfs.test/adfs", "ADFS", "https://adfs.test/adfs/oauth2/token"),
        ("https://adfs.test:444/adfs", "adfs", "https://adfs.test:444/adfs/oauth2/token"),
    ],
)
def test_the_endpoint_follows_from_authority_and_tenant(
    authority: str, tenant: str, url: str
) -> None:
    """There is no discovery; the authority of AD FS may have its path or not."""
    assert url == token_url(authority, tenant)


def test_form_has_exactly_the_fields_of_the_grant() -> None:
    """RFC 6749, section 4.4.2, and RFC 7523, section 2.2."""
    common = {
        "grant_type": "client_credentials",
        "client_id": "app",
        "scope": "https://vault.test/.default",
    }
    assert {**common, "client_secret": "s"} == secret_form(
        "app", "s", resource="https://vault.test"
    )
    assert {
        **common,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "a.b.c",
    } == assertion_form("app", "a.b.c", resource="https://vault.test")


@pytest.mark.parametrize(
    ("adfs", "header"), [(False, ("PS256", "x5t#S256", 32)), (True, ("RS256", "x5t", 20))]
)
def test_assertion_has_issuer_audience_and_lifetime(
    adfs: bool, header: tuple[str, str, int]
) -> None:
    """AD FS may support only RS256 and SHA-1; no part is padded (RFC 7515, section 2)."""
    made = sign_assertion(
        AssertionRequest(
            ISSUED.key_pem + ISSUED.pem,
            b"",
            assertion_claims("app", url=URL, now=1000.9, jwt_id="once"),
            legacy=adfs,
        )
    )
    assert "=" not in made
    head, claims = (json.loads(_decoded(part)) for part in made.split(".")[:2])
    algorithm, name, length = header
    assert {"typ", "alg", name} == head.keys()
    assert (algorithm, length) == (head["alg"], len(_decoded(head[name])))
    assert {
        "aud": URL,
        "iss": "app",
        "sub": "app",
        "jti": "once",
        "nbf": 1000,
        "exp": 1000 + ASSERTION_LIFETIME_SECONDS,
    } == claims


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
