"""Token errors: why there is no token, in our words only."""

from __future__ import annotations

import json

import pytest

from keyferry.errors import ConnectionFailedError, IdentityError, Stage
from keyferry.providers.azure.auth.aadsts import EXPLANATIONS, explain
from keyferry.providers.azure.auth.access_token import (
    MalformedTokenResponseError,
    TokenRefusedError,
    TokenResponse,
)
from keyferry.providers.azure.auth.identity import (
    Identity,
    ServiceAccountToken,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
)
from keyferry.providers.azure.auth.token_errors import TokenFailure, aadsts_code, token_failure

CANARY = "canary-9d2e"
APP = ServicePrincipal("app-1", CANARY)
POD = WorkloadIdentity("app-1", ServiceAccountToken(CANARY, "https://issuer.test", "system:x"))


def refused(status: int, body: object, identity: Identity = APP) -> TokenFailure:
    """What an answer of the token endpoint becomes."""
    answer = TokenResponse(status, {}, json.dumps(body).encode())
    error = TokenRefusedError(answer)
    return token_failure(error, identity=identity, tenant="tenant-1", host="login.test")


def entra(code: int) -> dict[str, object]:
    """An answer of Entra."""
    return {"error": "e", "error_description": f"AADSTS{code}: {CANARY}", "error_codes": [code]}


@pytest.mark.parametrize("code", sorted(EXPLANATIONS))
@pytest.mark.parametrize("identity", [APP, POD])
def test_known_codes_are_explained_without_entras_text(code: int, identity: Identity) -> None:
    """Each message has a remedy and the code; every template field is filled in."""
    found = refused(401, entra(code), identity)
    assert isinstance(found.error, IdentityError)
    assert not found.transient
    assert f"(AADSTS{code})" in found.error.problem
    assert found.error.remedy
    assert CANARY not in str(found.error)
    assert "{" not in str(found.error)


def test_unknown_code_links_to_its_documentation() -> None:
    """The link contains the code."""
    assert "error?code=4711000" in explain(4711000, identity=APP, tenant="t").remedy


def test_federation_mismatch_shows_the_claims_of_the_token() -> None:
    """The user compares issuer, subject and audience."""
    remedy = explain(700213, identity=POD, tenant="t").remedy
    for claim in ("https://issuer.test", "system:x", "api://AzureADTokenExchange"):
        assert claim in remedy


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (json.dumps(entra(700016)).encode(), 700016),
        (b'{"error_description": "AADSTS90002: no such tenant"}', 90002),
        (b'{"error_description": "something else AADSTS90002"}', None),
        (b'{"error": "invalid_client"}', None),
        (b"<html>", None),
        (b"\xff", None),
        (b'{"x": ' + b"[" * 100_000, None),
    ],
)
def test_error_code_is_found_in_every_form(body: bytes, code: int | None) -> None:
    """In the list of codes, else at the beginning of the description."""
    assert aadsts_code(body) == code


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_entra_is_transient(status: int) -> None:
    """These statuses are retried."""
    assert refused(status, {}).transient


@pytest.mark.parametrize("status", [404, 410, 429, 503])
def test_starting_imds_is_transient(status: int) -> None:
    """It returns 404 and 410 while it starts or is updated."""
    assert refused(status, {}, VmManagedIdentity("mi-1")).transient


@pytest.mark.parametrize(
    ("status", "client_id", "words"),
    [
        (400, "mi-1", "the managed identity with client ID mi-1 is not assigned to this machine"),
        (400, "", "this machine has no system-assigned managed identity"),
        (403, "mi-1", "IMDS refuses a token for client ID mi-1"),
    ],
)
def test_imds_refusals_are_explained(status: int, client_id: str, words: str) -> None:
    """User-assigned and system-assigned identities have different remedies."""
    found = refused(status, {"error_description": CANARY}, VmManagedIdentity(client_id))
    assert words in found.error.problem
    assert not found.transient
    assert CANARY not in str(found.error)


def test_malformed_token_response_is_an_error() -> None:
    """Such as a proxy's page: the message names the exception, not its text."""
    for error in (MalformedTokenResponseError(), ValueError(CANARY)):
        found = token_failure(error, identity=APP, tenant="t", host="login.test")
        assert "login.test did not return a valid token response" in found.error.problem
        assert CANARY not in str(found.error)


def test_timeout_is_a_transient_connection_failure() -> None:
    """It is retried."""
    found = token_failure(TimeoutError(), identity=APP, tenant="t", host="login.test")
    assert isinstance(found.error, ConnectionFailedError)
    assert found.error.stage is Stage.CONNECT
    assert found.transient
