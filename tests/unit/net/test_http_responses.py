"""keyferry.net.http_responses: responses are parsed and never quoted."""

from __future__ import annotations

import msgspec
import pytest

from keyferry.errors import VaultError, VaultThrottledError
from keyferry.net.http_responses import (
    ErrorResponse,
    parse_error_response,
    parse_json_response,
    retryable_error,
)

CANARY = "canary-5e7a"


class Document(msgspec.Struct):
    value: str


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        (
            b'{"error":{"code":"Forbidden","innererror":{"code":"SecretDisabled"}}}',
            ("Forbidden", "SecretDisabled"),
        ),
        (b'{"error":{"code":"SecretNotFound","message":"canary-5e7a"}}', ("SecretNotFound",)),
        (b'{"error":{"code":"a","innererror":null}}', ("a",)),
        (b'{"error":{"code":"with spaces, canary-5e7a"}}', ()),
        (b'{"error":"text"}', ()),
        (b"<html>", ()),
        (b"", ()),
        (b"\xff\xfe", ()),
        (b"[" * 100_000, ()),
        (b'{"x": ' + b"[" * 100_000, ()),
    ],
)
def test_error_response_keeps_only_status_codes_and_challenge(
    body: bytes, codes: tuple[str, ...]
) -> None:
    """A code is one short word; messages and other text are dropped."""
    expected = ErrorResponse(403, codes, "Bearer x")
    assert parse_error_response(403, {"WWW-Authenticate": "Bearer x"}, body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"value": 5, "x": "canary-5e7a"}',
        b'{"value": "canary-5e7a"',
        b"canary-5e7a",
        b"",
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_invalid_response_is_an_error_that_does_not_quote_it(body: bytes) -> None:
    """The message names the host; the body is neither quoted nor chained."""
    with pytest.raises(VaultError, match=r"vault\.test is not valid JSON") as caught:
        parse_json_response(body, Document, host="vault.test", action="read secret x")
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_throttled_error_contains_the_retry_after_seconds() -> None:
    """429 becomes a VaultThrottledError with the seconds."""
    error = retryable_error(429, host="vault.test", action="read secret x", retry_after=120.0)
    assert isinstance(error, VaultThrottledError)
    assert error.retry_after == 120.0
    assert "retry after 120 s" == error.detail


def test_server_error_names_host_and_status() -> None:
    """Other retryable statuses are failures of the vault."""
    error = retryable_error(503, host="vault.test", action="read secret x", retry_after=None)
    assert error.problem == "failed to read secret x: vault.test failed with status 503"
