"""Remedies under a development vault name its commands, and nothing of the cloud."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from keyferry.errors import (
    ClassInvalidError,
    ConnectionFailedError,
    IdentityError,
    KeyferryError,
    VaultError,
    VaultThrottledError,
)
from keyferry.net.http_responses import ErrorResponse
from keyferry.providers.azure.auth.aadsts import EXPLANATIONS
from keyferry.providers.azure.auth.access_token import TokenRefusedError, TokenResponse
from keyferry.providers.azure.auth.identity import (
    ArcIdentity,
    CertificatePrincipal,
    Identity,
    IdentityBinding,
    PodIdentity,
    ServiceAccountToken,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
)
from keyferry.providers.azure.auth.token_errors import token_failure
from keyferry.providers.azure.keyvault_errors import (
    RequestContext,
    emulator_remedy,
    error_for_response,
)
from keyferry.providers.azure.objects import ObjectRef, ObjectType
from keyferry.providers.emulator import EmulatorCommands

DEV = EmulatorCommands(Path("/tmp/a b"))
DATA = "--data '/tmp/a b'"
REF = ObjectRef(ObjectType.SECRET, "db", "")
OLD = ObjectRef(ObjectType.SECRET, "db", "abc")
KEY = ObjectRef(ObjectType.KEY, "k", "")
TOKEN = ServiceAccountToken("x", "https://issuer.test", "system:serviceaccount:shop:web")
IDENTITIES: tuple[Identity, ...] = (
    ServicePrincipal("app-1", "hush"),
    CertificatePrincipal("app-1", b"x"),
    WorkloadIdentity("app-1", TOKEN),
    IdentityBinding("app-1", TOKEN),
    VmManagedIdentity(""),
    VmManagedIdentity("app-1"),
    VmManagedIdentity("", resource_id="/subscriptions/x"),
    ArcIdentity(),
    PodIdentity("shop", "web-0"),
)
OF_THE_CLOUD = re.compile(r"\baz [a-z]|azcmagent|Azure VM|scale set|Ask an administrator of Azure")


def refusal(status: int, *codes: str, ref: ObjectRef = REF, who: Identity = IDENTITIES[0]) -> str:
    """The remedy for a response of vault contoso."""
    context = RequestContext("contoso", "t1", "https://login.test", who, DEV)
    error = error_for_response(ErrorResponse(status, codes, ""), ref, context)
    return emulator_remedy(error, DEV)


def token_refusal(status: int, code: int | None, who: Identity) -> str:
    """The remedy for a response of a token service."""
    body = {} if code is None else {"error": "e", "error_codes": [code]}
    response = TokenResponse(status, {}, json.dumps(body).encode())
    failure = token_failure(
        TokenRefusedError(response), identity=who, tenant="t1", host="h", emulator=DEV
    )
    return emulator_remedy(failure.error, DEV)


@pytest.mark.parametrize(
    ("remedy", "command"),
    [
        (refusal(401), "status"),
        (refusal(403, "Forbidden"), "policy contoso app-1 --allow get,list"),
        (refusal(403, who=VmManagedIdentity("")), "policy contoso system --allow get,list"),
        (refusal(403, who=ArcIdentity()), "policy contoso system --allow get,list"),
        (refusal(403, who=PodIdentity("a", "b")), "policy contoso CLIENT_ID --allow get,list"),
        (refusal(403, "Forbidden", "SecretDisabled"), "enable contoso db"),
        (refusal(403, "KeyDisabled", ref=KEY), "key enable contoso k"),
        (refusal(403, "SecretDisabled", ref=OLD), "enable contoso db --version abc"),
        (refusal(404, "SecretNotFound"), "list contoso"),
        (refusal(404, "SecretNotFound", ref=OLD), "list contoso db"),
        (refusal(404, "KeyNotFound", ref=KEY), "key list contoso"),
        (refusal(404, "VaultNotFound"), "set contoso NAME"),
        (refusal(418), "tune --clear"),
        (token_refusal(400, 90002, IDENTITIES[0]), "identity add-app app-1 --tenant t1"),
        (token_refusal(400, 7000215, IDENTITIES[0]), "identity add-app app-1 --tenant t1"),
        (
            token_refusal(401, 700027, IDENTITIES[1]),
            "identity add-app app-1 --tenant t1 --certificate FILE",
        ),
        (
            token_refusal(401, 700213, WorkloadIdentity("app-1", TOKEN)),
            f"identity federate app-1 --subject {TOKEN.subject} --issuer https://issuer.test",
        ),
        (token_refusal(400, 50166, IDENTITIES[2]), "issuer add https://issuer.test --jwks FILE"),
        (token_refusal(400, None, VmManagedIdentity("")), "identity add-managed --system"),
        (token_refusal(400, None, VmManagedIdentity("app-1")), "identity add-managed app-1"),
        (
            token_refusal(403, None, PodIdentity("shop", "web-0")),
            "identity assign-pod CLIENT_ID --namespace shop --pod web-0",
        ),
        (token_refusal(503, None, VmManagedIdentity("")), "tune --clear"),
        (emulator_remedy(ConnectionFailedError("x", "Check firewalls"), DEV), "tune --clear"),
        (emulator_remedy(VaultThrottledError("x", "Request fewer objects"), DEV), "tune --clear"),
        (
            emulator_remedy(ClassInvalidError("x", "Set it: az account show --query a."), DEV),
            "identity list",
        ),
    ],
)
def test_remedy_names_the_command_with_the_data_folder(remedy: str, command: str) -> None:
    assert f"keyferry devvault {command} {DATA}" in remedy


@pytest.mark.parametrize("who", IDENTITIES)
def test_no_remedy_speaks_of_the_cloud(who: Identity) -> None:
    """Whatever a service responds, to whichever identity."""
    remedies = [
        refusal(status, *codes, ref=ref, who=who)
        for ref in (REF, OLD, KEY)
        for status in (302, 400, 401, 403, 404, 500)
        for codes in ((), ("Forbidden", "SecretDisabled"), ("ForbiddenByFirewall",))
    ]
    remedies += [
        token_refusal(status, code, who)
        for status in (400, 401, 403, 404, 500)
        for code in (None, 4711, *EXPLANATIONS)
    ]
    assert [] == [remedy for remedy in remedies if OF_THE_CLOUD.search(remedy)]
    assert all(remedies)


@pytest.mark.parametrize("code", ["ForbiddenByFirewall", "ForbiddenByConnection"])
def test_a_firewall_is_an_injected_fault(code: str) -> None:
    """No permission helps: the development vault has no firewall of its own."""
    remedy = refusal(403, "Forbidden", code)
    assert f"tune --clear {DATA}" in remedy
    assert "policy" not in remedy


def test_an_outage_of_a_vault_that_runs_is_an_injected_fault() -> None:
    error = VaultError("contoso responds with status 503", "Check its health.")
    error.is_outage = True
    assert f"keyferry devvault status {DATA}" in emulator_remedy(error, DEV)


@pytest.mark.parametrize("error", [IdentityError("x", "Set tenantID."), KeyferryError("x")])
def test_a_remedy_that_holds_everywhere_is_kept(error: KeyferryError) -> None:
    assert error.remedy == emulator_remedy(error, DEV)
