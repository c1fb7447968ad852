"""Access token: reading answers, checking the proxy's URL."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import PlatformError
from keyferry.providers.azure.auth.access_token import (
    AccessToken,
    MalformedTokenResponseError,
    TokenRefusedError,
    TokenResponse,
    parse_nmi_token,
    parse_token,
)
from keyferry.providers.azure.auth.aks_token_proxy import check_proxy_url

CANARY = "canary-31fe"
NOW = 1000.0


def answer(body: object, status: int = 200) -> TokenResponse:
    """An answer with a JSON body."""
    return TokenResponse(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("fields", "expires"),
    [
        ({"expires_on": 5000}, 5000.0),
        ({"expires_on": "5000"}, 5000.0),
        ({"expires_on": "5000", "expires_in": 1}, 5000.0),
        ({"expires_in": 3600}, NOW + 3600),
        ({"expires_in": "3600"}, NOW + 3600),
        ({"expires_on": "9/14/2030 5:00:00 PM +00:00"}, NOW),
        ({}, NOW),
    ],
)
def test_the_end_of_a_token_is_read_in_every_form(
    fields: dict[str, object], expires: float
) -> None:
    """Numbers or digits; what cannot be read counts as expired."""
    found = parse_token(answer({"access_token": CANARY} | fields), now=NOW)
    assert (CANARY, expires) == (found.text, found.expires_at)
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("fields", "renew"),
    [
        ({"expires_in": 3600}, None),
        ({"expires_in": 7199}, None),
        ({"expires_in": 7200}, NOW + 3600),
        ({"expires_on": str(int(NOW) + 86400)}, NOW + 43200),
        ({"expires_in": 86400, "refresh_in": 40000}, NOW + 40000),
        ({"expires_in": "86400", "refresh_in": "40000"}, NOW + 40000),
        ({"expires_in": 3600, "refresh_in": 1800}, NOW + 1800),
        ({"expires_in": 3600, "refresh_in": "soon"}, None),
        ({"expires_in": 3600, "refresh_in": None}, None),
    ],
)
def test_when_a_token_is_to_be_renewed(fields: dict[str, object], renew: float | None) -> None:
    """When the endpoint says; else in the middle of a life of two hours and more."""
    assert renew == parse_token(answer({"access_token": CANARY} | fields), now=NOW).renew_at


@pytest.mark.parametrize("text", ["", " ", "a b", "a\nX-Header: b", "a\r\n", "\x7f", "t\u00f6ken"])
def test_what_no_header_can_carry_is_no_token(text: str) -> None:
    """It would leave as another exception, or as another header."""
    for parse, body in (
        (parse_token, {"access_token": text}),
        (parse_nmi_token, {"token": {"access_token": text}, "clientid": "app"}),
    ):
        with pytest.raises(MalformedTokenResponseError):
            parse(answer(body), now=NOW)


def test_nmi_wraps_its_token() -> None:
    """And names the client."""
    body = {"token": {"access_token": CANARY, "expires_on": "5000"}, "clientid": "app"}
    assert parse_nmi_token(answer(body), now=NOW) == AccessToken(CANARY, 5000.0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"clientid": "app"},
        {"token": {"access_token": CANARY}},
        {"token": {"access_token": ""}, "clientid": "app"},
        {"token": CANARY, "clientid": "app"},
    ],
)
def test_an_answer_of_nmi_without_token_or_client_is_none(body: object) -> None:
    """Both are expected."""
    with pytest.raises(MalformedTokenResponseError) as caught:
        parse_nmi_token(answer(body), now=NOW)
    assert caught.value.__cause__ is None


def test_a_status_is_a_refusal() -> None:
    """Whatever the body holds."""
    with pytest.raises(TokenRefusedError):
        parse_token(answer({"access_token": CANARY}, 201), now=NOW)


@given(st.binary(max_size=200))
def test_no_answer_is_too_strange(body: bytes) -> None:
    """A token, or our own exception."""
    with suppress(MalformedTokenResponseError):
        assert isinstance(parse_token(TokenResponse(200, {}, body), now=NOW), AccessToken)


def test_the_proxy_is_the_api_server_unless_told() -> None:
    """As upstream."""
    assert check_proxy_url("") == "https://kubernetes.default.svc.cluster.local"
    assert check_proxy_url("https://10.0.0.1:6443/proxy/") == "https://10.0.0.1:6443/proxy"


@pytest.mark.parametrize(
    "text",
    [
        "http://x",
        "https://user@x",
        "https://u:p@x",
        "https://x?q=1",
        "https://x#f",
        "x",
        "https://",
        "https://x:99999999",
    ],
)
def test_a_proxy_url_is_checked_at_start(text: str) -> None:
    """Only https, host, port and path."""
    with pytest.raises(PlatformError, match="--token-proxy-url"):
        check_proxy_url(text)
