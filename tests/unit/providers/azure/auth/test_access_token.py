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
def test_token_expiry_is_parsed_from_every_form(fields: dict[str, object], expires: float) -> None:
    """Numbers or digits; a token whose expiry cannot be read counts as expired."""
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
def test_token_renewal_time(fields: dict[str, object], renew: float | None) -> None:
    """The endpoint's `refresh_in`; else half of a lifetime of at least two hours."""
    assert renew == parse_token(answer({"access_token": CANARY} | fields), now=NOW).renew_at


@pytest.mark.parametrize("text", ["", " ", "a b", "a\nX-Header: b", "a\r\n", "\x7f", "t\u00f6ken"])
def test_token_with_characters_invalid_in_a_header_is_rejected(text: str) -> None:
    """It could raise a foreign exception, or inject another header."""
    for parse, body in (
        (parse_token, {"access_token": text}),
        (parse_nmi_token, {"token": {"access_token": text}, "clientid": "app"}),
    ):
        with pytest.raises(MalformedTokenResponseError):
            parse(answer(body), now=NOW)


def test_nmi_response_nests_the_token() -> None:
    """The response also names the client."""
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
def test_nmi_response_without_token_or_client_is_malformed(body: object) -> None:
    """Both are required."""
    with pytest.raises(MalformedTokenResponseError) as caught:
        parse_nmi_token(answer(body), now=NOW)
    assert caught.value.__cause__ is None


def test_status_other_than_200_is_a_refusal() -> None:
    """The body does not matter."""
    with pytest.raises(TokenRefusedError):
        parse_token(answer({"access_token": CANARY}, 201), now=NOW)


@given(st.binary(max_size=200))
def test_any_response_is_a_token_or_malformed(body: bytes) -> None:
    """No other exception escapes."""
    with suppress(MalformedTokenResponseError):
        assert isinstance(parse_token(TokenResponse(200, {}, body), now=NOW), AccessToken)


def test_token_proxy_defaults_to_the_api_server() -> None:
    """Same default as upstream."""
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
def test_invalid_token_proxy_url_is_rejected_at_start(text: str) -> None:
    """Only https, host, port and path are allowed."""
    with pytest.raises(PlatformError, match="--token-proxy-url"):
        check_proxy_url(text)
