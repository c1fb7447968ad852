"""keyferry.providers.azure.auth.challenge: what a vault's 401 says, and how far it is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import AccessDeniedError
from keyferry.providers.azure.auth.challenge import (
    Challenge,
    TokenTarget,
    parse_challenge,
    token_target,
)

VAULT = "https://vault.azure.net"
LOGIN = "https://login.microsoftonline.com"
HOST = "contoso.vault.azure.net"
USED = TokenTarget("tenant-1", VAULT)


def wanted(challenge: Challenge, host: str = HOST) -> TokenTarget:
    """What is asked for after `challenge`."""
    return token_target(challenge, USED, host=host, authority=LOGIN)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            f'Bearer authorization="{LOGIN}/tenant-2", resource="{VAULT}"',
            Challenge("login.microsoftonline.com", "tenant-2", VAULT),
        ),
        (
            f"Bearer authorization_uri={LOGIN}/Tenant-2/oauth2/authorize, resource={VAULT}/",
            Challenge("login.microsoftonline.com", "tenant-2", VAULT),
        ),
        (
            f'Bearer authorization="{LOGIN}/t", scope="{VAULT}/.default"',
            Challenge("login.microsoftonline.com", "t", VAULT),
        ),
        ('Bearer authorization="http://login.test/t", resource="ftp://x"', Challenge("", "", "")),
        ('Bearer authorization="https://login.test/a%2Fb"', Challenge("login.test", "", "")),
        ("Negotiate", Challenge("", "", "")),
        ("", Challenge("", "", "")),
    ],
)
def test_challenge_is_parsed_in_every_form(header: str, expected: Challenge) -> None:
    """Missing parts and parts with plain HTTP become empty."""
    assert parse_challenge(header) == expected


@given(st.text(max_size=400))
def test_any_header_is_parsed(header: str) -> None:
    """The header is untrusted input."""
    assert isinstance(parse_challenge(header), Challenge)


def test_challenge_without_new_values_changes_nothing() -> None:
    """The next token is for the same tenant and resource."""
    assert wanted(Challenge("login.microsoftonline.com", "tenant-1", VAULT)) == USED
    assert wanted(Challenge("", "", "")) == USED


@pytest.mark.parametrize("authority", ["login.microsoftonline.com", "login.windows.net"])
def test_tenant_of_a_challenge_is_used_for_every_host_name_of_the_cloud(authority: str) -> None:
    """The request still goes to the configured authority."""
    assert wanted(Challenge(authority, "tenant-2", VAULT)) == TokenTarget("tenant-2", VAULT)


@pytest.mark.parametrize("authority", ["login.evil.test", "login.microsoftonline.us", ""])
def test_tenant_of_another_authority_is_ignored(authority: str) -> None:
    """A tenant exists only in its cloud."""
    assert wanted(Challenge(authority, "tenant-2", VAULT)) == USED


def test_resource_in_the_vaults_domain_is_used() -> None:
    """A managed HSM requires tokens for managed HSMs."""
    found = wanted(Challenge("", "", "https://managedhsm.azure.net"), "x.managedhsm.azure.net")
    assert found == TokenTarget("tenant-1", "https://managedhsm.azure.net")


@pytest.mark.parametrize(
    "resource",
    [
        "https://management.azure.com",
        "https://t.azure.net",
        "https://contoso.vault.azure.net",
        "https://evil.vault.azure.net",
    ],
)
def test_resource_outside_of_the_vaults_domain_is_rejected(resource: str) -> None:
    """The vault could use such a token against another service."""
    with pytest.raises(AccessDeniedError, match="the challenge resource does not match") as caught:
        wanted(Challenge("", "", resource))
    assert resource in caught.value.problem
