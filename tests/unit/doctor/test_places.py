"""The stage of an error, by its type and its stage."""

from __future__ import annotations

import pytest

from keyferry.doctor.checks import DoctorStage
from keyferry.doctor.places import Place, place_of
from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    ConnectionFailedError,
    Denial,
    FilesInvalidError,
    IdentityError,
    InternalError,
    KeyferryError,
    MountLimitError,
    ObjectMissingError,
    ObjectNotFoundError,
    ObjectUnusableError,
    PlatformError,
    Stage,
    VaultError,
    VaultNotFoundError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.providers.sources.diagnosis import DiagnosedSource, Endpoint, EndpointKind

S = DoctorStage
VAULT = Endpoint(EndpointKind.VAULT, "contoso.vault.azure.net")
ENTRA = Endpoint(EndpointKind.TOKEN, "login.microsoftonline.com")
AZURE = DiagnosedSource(VAULT, ENTRA, "client ID x", {})
HASHICORP = DiagnosedSource(VAULT, None, "role 'app'", {})


def connection(stage: Stage, host: str = "") -> ConnectionFailedError:
    """A connection that failed."""
    error = ConnectionFailedError("x", stage=stage)
    error.host = host
    return error


def without_token() -> IdentityError:
    """There is no token to log in with."""
    error = IdentityError("x")
    error.lacks_token = True
    return error


ERRORS: list[tuple[KeyferryError, DoctorStage, str]] = [
    (IdentityError("x"), S.TOKEN_ENDPOINT, ENTRA.name),
    (without_token(), S.TOKEN, "service account"),
    (VaultThrottledError("x"), S.VAULT, VAULT.name),
    (connection(Stage.DNS, ENTRA.name), S.DNS, ENTRA.name),
    (connection(Stage.DNS, VAULT.name), S.DNS, VAULT.name),
    (connection(Stage.CONNECT, "redirected.example.com"), S.TCP, VAULT.name),
    (connection(Stage.TLS, ENTRA.name), S.TLS, ENTRA.name),
    (VaultUnavailableError("x", stage=Stage.CONNECT), S.TCP, VAULT.name),
    (VaultUnavailableError("x", stage=Stage.IDENTITY), S.TOKEN_ENDPOINT, ENTRA.name),
    (VaultNotFoundError("x"), S.VAULT, VAULT.name),
    (VaultError("x"), S.VAULT, VAULT.name),
    (VaultError("x", stage=Stage.OBJECT), S.OBJECT, "secret a"),
    (AccessDeniedError("x", denial=Denial.TOKEN), S.LOGIN, VAULT.name),
    (AccessDeniedError("x", denial=Denial.NETWORK), S.FIREWALL, VAULT.name),
    (AccessDeniedError("x", denial=Denial.ROLE), S.PERMISSION, "secret a"),
    (AccessDeniedError("x"), S.PERMISSION, "secret a"),
    (ObjectMissingError("x"), S.OBJECT, "secret a"),
    (ObjectNotFoundError("x"), S.OBJECT, "secret a"),
    (ObjectUnusableError("x"), S.RENDERING, "secret a"),
    (MountLimitError("x"), S.RENDERING, "secret a"),
    (FilesInvalidError("x"), S.RENDERING, "secret a"),
    (ClassInvalidError("x"), S.PARAMETERS, "secret a"),
    (ClassInvalidError("x", stage=Stage.CONNECT), S.PARAMETERS, VAULT.name),
    (PlatformError("x"), S.PARAMETERS, "secret a"),
    (InternalError("x"), S.PARAMETERS, "secret a"),
]


@pytest.mark.parametrize(("error", "stage", "subject"), ERRORS)
def test_an_error_has_a_stage_and_a_subject(
    error: KeyferryError, stage: DoctorStage, subject: str
) -> None:
    """Of a vault that needs a token endpoint."""
    assert Place(stage, subject) == place_of(error, "secret a", AZURE)


def test_a_vault_that_logs_in_itself_has_no_token_endpoint() -> None:
    """Its identity errors are those of its login."""
    assert Place(S.LOGIN, VAULT.name) == place_of(IdentityError("x"), "a", HASHICORP)
    unavailable = VaultUnavailableError("x", stage=Stage.IDENTITY)
    assert Place(S.VAULT, VAULT.name) == place_of(unavailable, "a", HASHICORP)


def test_a_name_that_is_not_resolved_is_that_of_the_proxy_if_one_applies() -> None:
    """The proxy resolves the name of the vault itself."""
    error = connection(Stage.DNS, VAULT.name)
    assert Place(S.PROXY, VAULT.name) == place_of(error, "a", AZURE, proxied=True)
