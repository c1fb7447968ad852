"""The part of the table about who reads, and about what is refused."""

from __future__ import annotations

from tests.compat.cases import Case, Difference, cert, key, secret
from tests.compat.changes import delivered, refused
from tests.compat.vault_contents import (
    APP_SECRET,
    FEDERATED,
    MACHINE,
    STRANGER,
    TENANT,
    Contents,
)

EXCHANGE = "api://AzureADTokenExchange"


def refusal_cases() -> tuple[Case, ...]:
    """What both sides refuse, or one of them."""
    return (*_bad_parameters(), *_bad_objects())


def identity_cases(contents: Contents) -> tuple[Case, ...]:
    """Who reads, and who may not."""
    plain = [secret("plain")]
    machine = {"useVMManagedIdentity": "true", "userAssignedIdentityID": MACHINE}
    return (
        Case("managed-identity", plain, machine, secrets={}),
        Case("workload-identity", plain, {"clientID": FEDERATED}, secrets={}, token_for=EXCHANGE),
        Case("old-tenant-key", plain, {"tenantID": None, "tenantId": TENANT}),
        Case("cloud-name", plain, {"cloudName": "azurepubliccloud"}),
        Case(
            "client-id-beside-machine",
            plain,
            {**machine, "clientID": FEDERATED},
            secrets={},
            differs=[
                Difference(
                    "`clientID` with `usePodIdentity` or `useVMManagedIdentity`",
                    delivered("client-id-beside-machine", contents, plain=b"s3cret"),
                )
            ],
        ),
        Case("no-credentials", plain, secrets={}, says="nodePublishSecretRef"),
        Case("no-client-id", plain, secrets={"clientsecret": APP_SECRET}, says="clientid"),
        Case("no-client-secret", plain, secrets={"clientid": FEDERATED}, says="clientsecret"),
        Case(
            "wrong-client-secret",
            plain,
            secrets={"clientid": STRANGER, "clientsecret": "wrong"},
            says="AADSTS7000215",
        ),
        Case(
            "may-not-read",
            plain,
            secrets={"clientid": STRANGER, "clientsecret": APP_SECRET},
            says="objectType:secret, objectName:plain, objectVersion:.*403|Forbidden",
        ),
        Case("no-token", plain, {"clientID": FEDERATED}, secrets={}, says="service account tokens"),
        Case(
            "token-for-another",
            plain,
            {"clientID": FEDERATED},
            secrets={},
            token_for="vault",
            says=f"token for audience {EXCHANGE} not found",
        ),
    )


def _bad_parameters() -> tuple[Case, ...]:
    plain = [secret("plain")]
    return (
        Case(
            "no-class",
            plain,
            class_name="nowhere",
            says=r"failed to get secretproviderclass \S+/nowhere.*not found",
        ),
        Case(
            "no-provider", plain, provider="nobody", says="provider not found: provider \"?'?nobody"
        ),
        Case("bad-provider", plain, provider="a/b", says="provider"),
        Case("no-vault", plain, {"keyvaultName": None}, says="keyvaultName is not provided"),
        Case(
            "short-vault",
            plain,
            {"keyvaultName": "kv"},
            says='[Ii]nvalid vault name: "kv", must be between 3 and 24 chars',
        ),
        Case(
            "odd-vault",
            plain,
            {"keyvaultName": "kv_test"},
            says='[Ii]nvalid vault name: "kv_test", must match',
        ),
        Case("no-tenant", plain, {"tenantID": None}, says="tenantId is not provided"),
        Case("no-objects", None, says="objects is not set"),
        Case(
            "bad-cloud",
            plain,
            {"cloudName": "AzureCloud1"},
            says="cloudName AzureCloud1 is not valid",
        ),
        Case(
            "bad-boolean",
            plain,
            {"usePodIdentity": "tru"},
            says="failed to parse usePodIdentity flag",
        ),
        Case(
            "two-modes",
            plain,
            {"usePodIdentity": "true", "useVMManagedIdentity": "true"},
            says="only one identity mode can be enabled at a time",
        ),
        Case(
            "unknown-tenant",
            plain,
            {"tenantID": "00000000-0000-4000-8000-000000000009"},
            says="AADSTS90002",
        ),
    )


def _bad_objects() -> tuple[Case, ...]:
    return (
        Case(
            "no-such-secret",
            [secret("plain"), secret("nowhere")],
            says="objectType:secret, objectName:nowhere, objectVersion:",
        ),
        Case("deleted", [secret("removed")], says="objectName:removed"),
        Case("disabled", [secret("off")], says="objectName:off"),
        Case(
            "no-such-version",
            [secret("plain", objectVersion="0" * 32)],
            says=f"objectName:plain, objectVersion:{'0' * 32}",
        ),
        Case("no-yaml", "array: [", says="failed to yaml unmarshal objects"),
        Case(
            "no-mapping",
            "array:\n  - |\n    [",
            says="unmarshal failed for keyVaultObjects at index 0",
        ),
        Case("a-mapping", "array:\n  - objectName: plain", says="failed to yaml unmarshal objects"),
        Case(
            "bad-format", [secret("plain", objectFormat="pkcs")], says="invalid objectFormat: pkcs"
        ),
        Case(
            "bad-encoding",
            [secret("plain", objectEncoding="utf-16")],
            says="invalid objectEncoding: utf-16",
        ),
        Case(
            "encoding-of-key",
            [key("key-rsa", objectEncoding="hex")],
            says="objectEncoding only supported for objectType: secret",
        ),
        Case(
            "format-of-cert",
            [cert("pem-rsa", objectFormat="pfx")],
            says="PFX format only supported for objectType: secret",
        ),
        Case(
            "absolute",
            [secret("plain", objectAlias="/etc/passwd")],
            says="file name must be a relative path",
        ),
        Case(
            "upwards", [secret("plain", objectAlias="../x")], says="file name must not contain '..'"
        ),
        Case("nameless", [secret("")], says="file name must not be empty"),
        Case(
            "unknown-type",
            [{"objectName": "plain", "objectType": "Secret"}],
            says="Should be secret, key, or cert",
        ),
        Case("empty-array", "array: []"),
        Case("impossible-name", [secret("a/b", objectAlias="x")]),
        Case(
            "one-path-twice",
            [secret("plain", objectAlias="a"), secret("other", objectAlias="a")],
            differs=[
                Difference(
                    "two objects on one path, or one below the other's path, are", refused()
                ),
                Difference("conflicting paths", refused(), driver=True),
            ],
        ),
        Case(
            "path-in-path", [secret("plain", objectAlias="a"), secret("other", objectAlias="a/b")]
        ),
        Case("odd-path", [secret("plain", objectAlias="a//b")]),
        Case(
            "pem-lonely",
            [secret("pem-lonely")],
            differs=[Difference("a private key that matches none of its certificates", refused())],
        ),
        Case("backed-oddly", [secret("backed-oddly")], says="unknown content type"),
    )
