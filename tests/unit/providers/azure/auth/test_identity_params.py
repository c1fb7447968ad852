"""Identity params: which identity a class asks for, and what contradicts it."""

from __future__ import annotations

import base64
import json
from itertools import combinations

import pytest

from keyferry.errors import ClassInvalidError, IdentityError, KeyferryError
from keyferry.providers.azure.auth.identity import (
    BINDING_AUDIENCE,
    ArcIdentity,
    CertificatePrincipal,
    Identity,
    IdentityBinding,
    PodIdentity,
    VmManagedIdentity,
)
from keyferry.providers.azure.auth.identity_params import (
    ModeSwitch,
    choose_identity,
    enabled_switch,
)
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT_TOKENS,
)

CANARY = "canary-55aa"
RESOURCE_ID = "/subscriptions/s/resourcegroups/g/providers/Microsoft.ManagedIdentity/x/y"
POD = {POD_NAME: "web-0", POD_NAMESPACE: "shop", POD_UID: "uid-1"}
PEM = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"
ID_KEYS = (
    "userAssignedIdentityID",
    "userAssignedIdentityObjectID",
    "userAssignedIdentityResourceID",
)


def chosen(parameters: dict[str, str], secrets: dict[str, str] | None = None) -> Identity:
    """The identity of a class with these parameters."""
    parameters = POD | parameters
    return choose_identity(enabled_switch(parameters), parameters, secrets)


def refusal(parameters: dict[str, str], secrets: dict[str, str] | None = None) -> KeyferryError:
    """The error that the choice ends with; it shows nothing secret."""
    with pytest.raises(KeyferryError) as caught:
        chosen(parameters, secrets)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


def tokens(audience: str, token: str = "a.b.c") -> str:
    """What kubelet sends for one audience."""
    return json.dumps({audience: {"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}})


@pytest.mark.parametrize("keys", list(combinations([switch.value for switch in ModeSwitch], 2)))
def test_two_modes_conflict(keys: tuple[str, str]) -> None:
    """Upstream's text, followed by the conflicting keys."""
    found = refusal(dict.fromkeys(keys, "true"))
    assert isinstance(found, ClassInvalidError)
    assert found.problem == (
        "only one identity mode can be enabled at a time: usePodIdentity, useVMManagedIdentity, "
        f"or useAzureTokenProxy, but {keys[0]} and {keys[1]} are set"
    )
    assert found.remedy == f"Keep only one of {keys[0]} and {keys[1]}."


def test_pod_identity_is_identified_by_the_pod() -> None:
    """A Secret and a client ID are ignored."""
    found = chosen({"usePodIdentity": "true", "clientID": "app"}, {"clientid": "x"})
    assert found == PodIdentity("shop", "web-0", "uid-1")


def test_arc_machine_has_only_a_system_assigned_identity() -> None:
    """It needs no ID."""
    assert chosen({"useArcManagedIdentity": "true"}) == ArcIdentity()


@pytest.mark.parametrize("key", ID_KEYS)
def test_id_conflicts_with_an_arc_machine(key: str) -> None:
    """The message names both keys."""
    found = refusal({"useArcManagedIdentity": "true", key: RESOURCE_ID})
    assert found.problem.endswith(f"but useArcManagedIdentity and {key} are set")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, VmManagedIdentity("")),
        ({"userAssignedIdentityID": " mi "}, VmManagedIdentity("mi")),
        (
            {"userAssignedIdentityID": RESOURCE_ID},
            VmManagedIdentity("", resource_id=RESOURCE_ID),
        ),
        ({"userAssignedIdentityObjectID": "oid"}, VmManagedIdentity("", object_id="oid")),
        (
            {"userAssignedIdentityResourceID": RESOURCE_ID},
            VmManagedIdentity("", resource_id=RESOURCE_ID),
        ),
    ],
)
def test_managed_identity_by_each_kind_of_id(
    parameters: dict[str, str], expected: VmManagedIdentity
) -> None:
    """A resource ID is recognized by its prefix."""
    assert chosen({"useVMManagedIdentity": "true"} | parameters) == expected


@pytest.mark.parametrize("keys", list(combinations(ID_KEYS, 2)))
def test_two_ids_conflict(keys: tuple[str, str]) -> None:
    """Even for the same identity; the second ID would have no effect."""
    found = refusal({"useVMManagedIdentity": "true"} | dict.fromkeys(keys, RESOURCE_ID))
    assert found.problem.endswith(f"but {keys[0]} and {keys[1]} are set")


@pytest.mark.parametrize("key", ID_KEYS[1:])
def test_extension_ids_require_the_vm_mode(key: str) -> None:
    """Otherwise they would be ignored without a message."""
    found = refusal({"usePodIdentity": "true", key: RESOURCE_ID})
    assert found.problem == f"{key} is set but useVMManagedIdentity is not true"


def test_upstreams_id_parameter_is_ignored_in_other_modes() -> None:
    """SecretProviderClasses that work upstream work here."""
    parameters = {"usePodIdentity": "true", "userAssignedIdentityID": "mi"}
    assert isinstance(chosen(parameters), PodIdentity)


def test_invalid_resource_id_is_rejected() -> None:
    """IMDS does not accept a name."""
    found = refusal({"useVMManagedIdentity": "true", "userAssignedIdentityResourceID": "my-mi"})
    assert "does not begin with /subscriptions/" in found.problem


def test_identity_binding_uses_the_token_of_its_audience() -> None:
    """AKS would refuse the token of workload identity."""
    parameters = {
        "useAzureTokenProxy": "true",
        "clientID": "mi",
        SERVICE_ACCOUNT_TOKENS: tokens(BINDING_AUDIENCE),
    }
    found = chosen(parameters)
    assert isinstance(found, IdentityBinding)
    assert (found.client_id, found.service_account_token.audience) == ("mi", BINDING_AUDIENCE)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "clientID is required for identity binding"),
        ({"clientID": "mi"}, "service account tokens are required for identity binding"),
        (
            {"clientID": "mi", SERVICE_ACCOUNT_TOKENS: CANARY},
            (
                "failed to parse service account token for identity binding, error: failed to "
                "unmarshal service account tokens, error: not a JSON object of tokens"
            ),
        ),
        (
            {"clientID": "mi", SERVICE_ACCOUNT_TOKENS: tokens("api://AzureADTokenExchange")},
            (
                "failed to parse service account token for identity binding, error: token for "
                "audience api://AKSIdentityBinding not found; there are tokens for: "
                "api://AzureADTokenExchange"
            ),
        ),
    ],
)
def test_incomplete_identity_binding_is_rejected(parameters: dict[str, str], words: str) -> None:
    """Upstream's texts, in upstream's order."""
    found = refusal({"useAzureTokenProxy": "true"} | parameters)
    assert isinstance(found, IdentityError)
    assert found.full_problem == f"failed to build auth config for mode AzureTokenProxy: {words}"


def test_certificate_as_pem() -> None:
    """With or without a password; key names are not case-sensitive."""
    secrets = {"clientid": "app", "ClientCertificate": PEM, "CLIENTCERTIFICATEPASSWORD": CANARY}
    found = chosen({}, secrets)
    assert found == CertificatePrincipal("app", PEM.encode(), CANARY)
    assert CANARY not in repr(found)


def test_certificate_as_base64_of_pkcs12() -> None:
    """Line breaks in the text are ignored."""
    text = base64.encodebytes(b"\x30\x82" + bytes(100)).decode()
    found = chosen({}, {"clientid": "app", "clientcertificate": text})
    assert found == CertificatePrincipal("app", b"\x30\x82" + bytes(100))


def test_certificate_in_another_form_is_rejected() -> None:
    """The message quotes nothing of it."""
    found = refusal({}, {"clientid": "app", "clientcertificate": f"{CANARY}!"})
    assert "clientcertificate is neither PEM nor the base64 text of PKCS#12" in found.problem


def test_client_secret_and_certificate_conflict() -> None:
    """The author must choose one."""
    found = refusal({}, {"clientid": "a", "clientsecret": CANARY, "clientcertificate": PEM})
    assert found.remedy == "Remove one of them from the Secret."
