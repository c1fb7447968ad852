"""keyferry.providers.registry: what a SecretProviderClass needs to log in without kubelet."""

from __future__ import annotations

import pytest

from keyferry.errors import ClassInvalidError
from keyferry.kubernetes.objects import SecretProviderClass
from keyferry.providers.registry import (
    check_without_pod,
    needs_credentials,
    token_audiences,
    uses_machine_identity,
)

EXCHANGE, BINDING = "api://AzureADTokenExchange", "api://AKSIdentityBinding"
CLIENT = "22222222-0000-4000-8000-000000000001"
ENTRY = "array:\n  - |\n    objectName: a\n    objectType: secret\n"


def spc(provider: str, **parameters: str) -> SecretProviderClass:
    return SecretProviderClass("shop", "web", provider, parameters)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (spc("azure", clientID=CLIENT), {EXCHANGE}),
        (spc("azure", clientID=CLIENT, useAzureTokenProxy="true"), {BINDING}),
        (spc("azure", useVMManagedIdentity="true"), set()),
        (spc("azure", useArcManagedIdentity="true"), set()),
        (spc("azure"), set()),
        (spc("azure", objects=f"{ENTRY}    clientID: {CLIENT}\n"), {EXCHANGE}),
        (spc("azure", useVMManagedIdentity="perhaps"), set()),
        (spc("azure", objects="array: ["), set()),
        (spc("vault", roleName="web"), {"vault"}),
        (spc("openbao", roleName="web"), {"openbao"}),
        (spc("vault", roleName="web", audience="https://vault"), {"https://vault"}),
        (spc("vault", vaultAuthMethod="approle"), set()),
        (spc("vault", vaultAuthMethod="unknown"), set()),
        (spc("aws"), None),
    ],
)
def test_audiences(found: SecretProviderClass, expected: set[str] | None) -> None:
    """Only those of the identity mode; unknown for an external provider."""
    assert expected == token_audiences(found)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (spc("azure", useVMManagedIdentity="true"), True),
        (spc("azure", useArcManagedIdentity="true"), True),
        (spc("azure", clientID=CLIENT), False),
        (spc("azure", useVMManagedIdentity="perhaps"), False),
        (spc("vault", useVMManagedIdentity="true"), False),
    ],
)
def test_identity_of_the_machine(found: SecretProviderClass, expected: bool) -> None:
    """Which a user should know: it is another machine than that of the pods."""
    assert expected is uses_machine_identity(found)


def test_pod_identity_needs_a_pod() -> None:
    """The message says what to use instead."""
    with pytest.raises(ClassInvalidError) as caught:
        check_without_pod(spc("azure", usePodIdentity="true"))
    assert str(caught.value) == (
        "usePodIdentity selects the identity of a pod, and a SecretSync has no pod. Use workload"
        " identity: set clientID, and federate it with the service account."
    )
    check_without_pod(spc("azure", clientID=CLIENT))
    check_without_pod(spc("azure", usePodIdentity="perhaps"))
    check_without_pod(spc("vault", usePodIdentity="true"))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (spc("azure", objects=ENTRY), True),
        (spc("azure", objects=f"{ENTRY}    clientID: {CLIENT}\n"), False),
        (spc("azure", objects=ENTRY, clientID=CLIENT), False),
        (spc("azure", objects=ENTRY, useVMManagedIdentity="true"), False),
        (spc("azure", objects=ENTRY, useVMManagedIdentity="perhaps"), False),
        (spc("azure", objects="array: ["), False),
        (spc("vault", roleName="web"), False),
        (spc("vault", vaultAuthMethod="approle"), True),
        (spc("openbao", baoAuthMethod="cert"), True),
        (spc("vault", vaultAuthMethod="unknown"), False),
        (spc("aws"), False),
    ],
)
def test_credentials_in_a_secret(found: SecretProviderClass, expected: bool) -> None:
    """Unknown for malformed parameters and for an external provider."""
    assert expected is needs_credentials(found)
