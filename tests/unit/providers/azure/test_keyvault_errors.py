"""keyferry.providers.azure.keyvault_errors: what a vault's "no" means."""

from __future__ import annotations

import pytest

from keyferry.errors import (
    AccessDeniedError,
    Denial,
    ObjectNotFoundError,
    VaultError,
)
from keyferry.net.http_responses import ErrorResponse
from keyferry.providers.azure.auth.identity import Identity, ServicePrincipal, VmManagedIdentity
from keyferry.providers.azure.keyvault_errors import RequestContext, error_for_response
from keyferry.providers.azure.objects import ObjectRef, ObjectType

REF = ObjectRef(ObjectType.SECRET, "db-password", "")
OLD = ObjectRef(ObjectType.SECRET, "db-password", "abc")


def error(
    status: int,
    *codes: str,
    ref: ObjectRef = REF,
    challenge: str = "",
    identity: Identity | None = None,
) -> VaultError:
    """The error for a refusal in vault contoso."""
    who = identity or ServicePrincipal("app-1", "hush")
    asked = RequestContext("contoso", "tenant-1", "https://login.microsoftonline.com", who)
    return error_for_response(ErrorResponse(status, codes, challenge), ref, asked)


def test_token_of_another_tenant_names_both_tenants() -> None:
    """And the command that shows the right one."""
    challenge = 'Bearer authorization="https://login.microsoftonline.com/tenant-2", resource="x"'
    found = error(401, challenge=challenge)
    assert isinstance(found, AccessDeniedError)
    assert "trusts https://login.microsoftonline.com/tenant-2" in found.problem
    assert "comes from https://login.microsoftonline.com/tenant-1" in found.problem
    assert "az keyvault show --name contoso" in found.remedy


def test_missing_permission_names_the_client_and_both_commands() -> None:
    """RBAC and access policies."""
    found = error(403, "Forbidden", "AccessDenied")
    assert isinstance(found, AccessDeniedError)
    assert (
        found.problem == "vault contoso does not let client ID app-1 read secret db-password (403)"
    )
    assert '"Key Vault Secrets User" --assignee app-1' in found.remedy
    assert "az keyvault set-policy --name contoso --spn app-1" in found.remedy


def test_system_assigned_identity_is_granted_by_principal_id() -> None:
    """Its client ID is not known."""
    found = error(403, "Forbidden", identity=VmManagedIdentity(""))
    assert "the system-assigned identity of this machine" in found.problem
    assert "--object-id <the principal ID of this machine>" in found.remedy


def test_firewall_is_not_a_missing_permission() -> None:
    """A role would not help."""
    found = error(403, "Forbidden", "ForbiddenByFirewall")
    assert isinstance(found, AccessDeniedError)
    assert "refuses connections from here" in found.problem
    assert "network-rule" in found.remedy


def test_disabled_version_is_not_a_missing_permission() -> None:
    """Also a 403, but the object must be enabled."""
    found = error(403, "Forbidden", "SecretDisabled")
    assert isinstance(found, ObjectNotFoundError)
    assert found.problem == "secret db-password is disabled in vault contoso"


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        (REF, "secret db-password does not exist in vault contoso"),
        (OLD, "secret db-password version abc does not exist in vault contoso"),
    ],
)
def test_missing_object_is_named_with_version_and_vault(ref: ObjectRef, words: str) -> None:
    """And the command that lists what exists."""
    found = error(404, "SecretNotFound", ref=ref)
    assert isinstance(found, ObjectNotFoundError)
    assert found.problem == words
    assert "az keyvault secret list" in found.remedy


def test_missing_vault_of_the_development_vault() -> None:
    """In Azure, its host name would not resolve."""
    found = error(404, "VaultNotFound")
    assert found.problem == "there is no vault contoso"


def test_other_status_is_an_error_with_its_codes() -> None:
    """A redirect or a 400 is not a success."""
    assert (
        error(400, "BadParameter").problem
        == "vault contoso responds with status 400 (BadParameter)"
    )
    assert error(302).problem == "vault contoso responds with status 302"


@pytest.mark.parametrize(
    ("status", "inner", "denial"),
    [
        (401, "", Denial.TOKEN),
        (403, "ForbiddenByFirewall", Denial.NETWORK),
        (403, "ForbiddenByConnection", Denial.NETWORK),
        (403, "ForbiddenByRbac", Denial.ROLE),
        (403, "AccessDenied", Denial.POLICY),
        (403, "", Denial.POLICY),
    ],
)
def test_what_is_missing_is_part_of_a_denial(status: int, inner: str, denial: Denial) -> None:
    """So that `keyferry doctor` parses no text."""
    found = error(status, "Forbidden", inner)
    assert isinstance(found, AccessDeniedError)
    assert denial is found.denial
