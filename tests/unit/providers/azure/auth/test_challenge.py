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
def test_a_challenge_is_read_in_all_its_spellings(header: str, expected: Challenge) -> None:
    """What it does not say, or says over plain HTTP, is nothing."""
    assert parse_challenge(header) == expected


@given(st.text(max_size=400))
def test_no_header_is_too_strange(header: str) -> None:
    """It comes from whoever answers."""
    assert isinstance(parse_challenge(header), Challenge)


def test_a_challenge_that_says_nothing_new_changes_nothing() -> None:
    """The token is renewed as it was."""
    assert wanted(Challenge("login.microsoftonline.com", "tenant-1", VAULT)) == USED
    assert wanted(Challenge("", "", "")) == USED


@pytest.mark.parametrize("authority", ["login.microsoftonline.com", "login.windows.net"])
def test_the_tenant_of_the_vault_is_believed_under_every_name_of_the_cloud(authority: str) -> None:
    """The request still goes to the authority of the class."""
    assert wanted(Challenge(authority, "tenant-2", VAULT)) == TokenTarget("tenant-2", VAULT)


@pytest.mark.parametrize("authority", ["login.evil.test", "login.microsoftonline.us", ""])
def test_the_tenant_of_another_authority_is_not_believed(authority: str) -> None:
    """A tenant means nothing outside of its cloud."""
    assert wanted(Challenge(authority, "tenant-2", VAULT)) == USED


def test_a_resource_around_the_host_is_believed() -> None:
    """A managed HSM wants tokens for managed HSMs."""
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
def test_a_resource_of_somebody_else_is_never_asked_for(resource: str) -> None:
    """The vault could use such a token there in our name."""
    with pytest.raises(AccessDeniedError, match="the challenge resource does not match") as caught:
        wanted(Challenge("", "", resource))
    assert resource in caught.value.problem
