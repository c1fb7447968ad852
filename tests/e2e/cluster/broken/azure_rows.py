"""Broken set-ups with Azure Key Vault, against the development vault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyferry_devvault.model import SecretAttributes
from keyferry_devvault.storage.certificates import CertificateSpec
from tests.e2e.cluster.broken.setup import (
    CLIENT_SECRET,
    MOUNTS,
    QUEUED,
    REFRESHES,
    SECRETS,
    THROTTLES,
    UNAVAILABLE,
    VALUE,
    WORKLOAD,
    WRONG_SECRET,
    BrokenSetup,
    Category,
    Phase,
    azure,
    secret_entry,
)
from tests.e2e.cluster.broken.world import World
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import MACHINE, azure_class, deployment, pod, secret_object
from tests.fakes.devvault import CloseMidResponse, Hang, RespondStatus

APP = "22222222-0000-4000-8000-000000000009"
"""An application with a client secret."""
OTHER_MACHINE = "11111111-0000-4000-8000-000000000002"
"""A managed identity for which the driver has no token yet."""
_APP_CERTIFICATE = "a certificate"
OTHER_TENANT = "99999999-0000-4000-8000-000000000000"
UNKNOWN = "22222222-0000-4000-8000-000000000404"


def app_of(row: BrokenSetup) -> str:
    """Return the client ID of the application of a row with workload identity."""
    spc = row.documents[0]
    return str(spc["spec"]["parameters"]["clientID"])


# --- The vault before the pod starts ----------------------------------------------------------


def prepare(world: World, row: BrokenSetup) -> None:
    """Give a row its vault with a secret, which the identity of the node may read."""
    vault = world.installed.vault
    vault.set_secret(row.vault, "db-password", VALUE)
    vault.grant(row.vault, MACHINE, "get", "list")
    if row.prepare is not None:
        row.prepare(world, row)


def _revoke(world: World, row: BrokenSetup) -> None:
    world.installed.vault.revoke(row.vault, MACHINE)


def _only_list(world: World, row: BrokenSetup) -> None:
    world.installed.vault.grant(row.vault, MACHINE, "list")


def _delete(world: World, row: BrokenSetup) -> None:
    world.installed.vault.delete(row.vault, "db-password")


def _disable(world: World, row: BrokenSetup) -> None:
    world.installed.vault.disable(row.vault, "db-password")


def _disable_newest(world: World, row: BrokenSetup) -> None:
    world.installed.vault.set_secret(row.vault, "db-password", f"{VALUE}-2", enabled=False)


def _expire(world: World, row: BrokenSetup) -> None:
    expired = SecretAttributes(enabled=True, expires=1_600_000_000)
    world.installed.vault.data.secrets.set(row.vault, "db-password", VALUE, expired)


def _certificates(world: World, row: BrokenSetup) -> None:
    for name in ("web", "api"):
        spec = CertificateSpec(hosts=[f"{name}.example.com"])
        world.installed.vault.create_certificate(row.vault, name, spec)


def _json(world: World, row: BrokenSetup) -> None:
    world.installed.vault.set_secret(row.vault, "db-password", f'{{"password": "{VALUE}"}}')


def _many(world: World, row: BrokenSetup) -> None:
    for number in range(4):
        world.installed.vault.set_secret(row.vault, f"shop-{number}", VALUE)


def _new_value(world: World, row: BrokenSetup) -> None:
    world.installed.vault.set_secret(row.vault, "db-password", f"{VALUE}-2")


def _fault(world: World, row: BrokenSetup, action: object) -> None:
    host = f"{row.vault}.vault.azure.net"
    assert isinstance(action, RespondStatus | CloseMidResponse | Hang)
    world.installed.vault.add_fault(host, action, times=None)


def _firewall(world: World, row: BrokenSetup) -> None:
    _fault(world, row, RespondStatus(403, code="ForbiddenByFirewall"))


def _private_endpoint(world: World, row: BrokenSetup) -> None:
    _fault(world, row, RespondStatus(403, code="ForbiddenByConnection"))


def _throttle(world: World, row: BrokenSetup) -> None:
    _fault(world, row, RespondStatus(429, 30))


def _outage(world: World, row: BrokenSetup) -> None:
    _fault(world, row, RespondStatus(503))


def _hang(world: World, row: BrokenSetup) -> None:
    _fault(world, row, Hang())


def _silence_imds(world: World, row: BrokenSetup) -> None:
    vault = world.installed.vault
    vault.add_managed_identity(OTHER_MACHINE)
    vault.grant(row.vault, OTHER_MACHINE, "get")
    vault.add_fault("/metadata", Hang(), times=None)


def _app(world: World, row: BrokenSetup) -> None:
    world.installed.vault.add_app(APP, secret=CLIENT_SECRET)
    world.installed.vault.grant(row.vault, APP, "get")


def _federate(world: World, row: BrokenSetup, **credential: str) -> None:
    """Give a row an application with a federated credential that is correct but for one part."""
    vault, app = world.installed.vault, app_of(row)
    vault.add_app(app, secret=None)
    vault.grant(row.vault, app, "get")
    issuer = world.installed.cluster.server.address.url
    subject = f"system:serviceaccount:{row.name}:default"
    vault.federate(app, **{"subject": subject, "issuer": issuer, **credential})


def _not_federated(world: World, row: BrokenSetup) -> None:
    world.installed.vault.add_app(app_of(row), secret=None)
    world.installed.vault.grant(row.vault, app_of(row), "get")


def _wrong_subject(world: World, row: BrokenSetup) -> None:
    _federate(world, row, subject=f"system:serviceaccount:{row.name}:web")


def _wrong_issuer(world: World, row: BrokenSetup) -> None:
    _federate(world, row, issuer="https://oidc.example.com/other-cluster")


def _wrong_audience(world: World, row: BrokenSetup) -> None:
    _federate(world, row, audience="api://AnotherAudience")


# --- Kubernetes objects -------------------------------------------------------------------------


def _credentials(**data: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "login", "labels": {"secrets-store.csi.k8s.io/used": "true"}},
        "stringData": data,
    }


def _workload(number: int, **more: str) -> Mapping[str, str | None]:
    return {**WORKLOAD, "clientID": f"22222222-0000-4000-8000-{number:012d}", **more}


_DB = [secret_object("db", {"password": "db-password"})]
_LOGIN = pod("web", "web", credentials="login")
_TEMPLATE = '- path: url\n  template: "postgresql://{{ db-user }}@db"\n'
_ENV = pod("web", "web", env={"PASSWORD": ("db", "password")})
_QUOTA: Document = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "few-secrets"},
    "spec": {"hard": {"count/secrets": "0"}},
}
_SHARED = azure_class("shared", {"db-password": "db"})
_SHARED["metadata"]["namespace"] = "default"
_OTHER_DRIVER = pod("web", "web")
_OTHER_DRIVER["spec"]["volumes"][0]["csi"]["driver"] = "secret-store.csi.k8s.io"


def _policy(namespace: str) -> tuple[Document, Document]:
    """Return an admission policy that denies Secrets in a namespace, and its binding."""
    api, name = "admissionregistration.k8s.io/v1", "no-unlabelled-secrets"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["secrets"],
    }
    message = "Secrets need the label team"
    check = {"expression": "'team' in object.metadata.labels", "message": message}
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return (
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [check]},
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": selector},
            },
        },
    )


_KUBELET: dict[str, Any] = {"reasons": ("FailedMount",), "alerts": ()}
_SECRET: dict[str, Any] = {"reasons": ("FailedToCreateSecret",), "alerts": (SECRETS,)}
_REFRESH: dict[str, Any] = {"reasons": ("MountRotationFailed",), "alerts": (REFRESHES,)}
_NOT_CALLED = "The driver is not called."

IDENTITY = (
    azure(
        "wrong-client-id", "The client ID is wrong", Category.IDENTITY, "token-endpoint",
        parameters=_workload(404),
    ),
    azure(
        "wrong-tenant", "The tenant ID is wrong", Category.IDENTITY, "token-endpoint",
        parameters=_workload(1, tenantID=OTHER_TENANT), prepare=_not_federated,
    ),
    azure(
        "wrong-client-secret", "The client secret is wrong", Category.IDENTITY,
        "token-endpoint", parameters=WORKLOAD, prepare=_app, pods=[_LOGIN],
        more=[_credentials(clientid=APP, clientsecret=WRONG_SECRET)],
    ),
    azure(
        "no-client-secret", "The Secret with the credentials has no `clientsecret`",
        Category.IDENTITY, "credentials", parameters=WORKLOAD, prepare=_app, pods=[_LOGIN],
        more=[_credentials(clientid=APP)],
    ),
    azure(
        "two-credentials", "The Secret with the credentials has a client secret and a certificate",
        Category.IDENTITY, "credentials", parameters=WORKLOAD, prepare=_app, pods=[_LOGIN],
        more=[
            _credentials(
                clientid=APP, clientsecret=CLIENT_SECRET, clientcertificate=_APP_CERTIFICATE
            )
        ],
    ),
    azure(
        "no-credentials", "The Secret with the credentials does not exist", Category.IDENTITY,
        "credentials", parameters=WORKLOAD, pods=[_LOGIN], no_alert=_NOT_CALLED, **_KUBELET,
    ),
    azure(
        "not-federated", "The application has no federated credential", Category.IDENTITY,
        "token-endpoint", parameters=_workload(2), prepare=_not_federated,
    ),
    azure(
        "wrong-subject", "The subject of the federated credential is wrong", Category.IDENTITY,
        "token-endpoint", parameters=_workload(3), prepare=_wrong_subject,
    ),
    azure(
        "wrong-issuer", "The issuer of the federated credential is wrong", Category.IDENTITY,
        "token-endpoint", parameters=_workload(4), prepare=_wrong_issuer,
    ),
    azure(
        "wrong-audience", "The audience of the federated credential is wrong",
        Category.IDENTITY, "token-endpoint", parameters=_workload(5), prepare=_wrong_audience,
    ),
    azure(
        "no-identity", "No identity mode is chosen", Category.IDENTITY, "credentials",
        parameters=WORKLOAD, lint=("volume",),
    ),
    azure(
        "not-assigned", "The managed identity is not assigned to the node", Category.IDENTITY,
        "token-endpoint", parameters={"userAssignedIdentityID": UNKNOWN},
    ),
    azure(
        "no-account", "The service account does not exist", Category.IDENTITY,
        "service-account", parameters=_workload(6), prepare=_federate, alerts=(),
        pods=[deployment("web", "web", serviceAccountName="shop")],
        reasons=("FailedCreate",), about="replicaset", no_alert="No pod is created.",
        target="secretproviderclass/web", doctor_options=("--service-account", "shop"),
    ),
)  # fmt: skip

PERMISSIONS = (
    azure(
        "no-role", "The identity has no role on the vault", Category.PERMISSIONS, "permission",
        prepare=_revoke,
    ),
    azure(
        "only-list", "The identity may list secrets, but not get them", Category.PERMISSIONS,
        "permission", prepare=_only_list,
    ),
    azure(
        "node-refused", "The firewall of the vault refuses the node", Category.PERMISSIONS,
        "firewall", prepare=_firewall,
    ),
    azure(
        "private-endpoint", "The vault accepts only its private endpoint", Category.PERMISSIONS,
        "firewall", prepare=_private_endpoint,
    ),
    azure(
        "admission-policy", "An admission policy refuses the Secret", Category.PERMISSIONS,
        "secret", secret_objects=_DB, more=_policy("admission-policy"), **_SECRET,
    ),
)  # fmt: skip

NAMES = (
    azure("no-object", "The object does not exist", Category.NAMES, "object", prepare=_delete,
          objects=[secret_entry("db-pasword")]),
    azure("object-disabled", "The object is disabled", Category.NAMES, "object", prepare=_disable),
    azure("object-deleted", "The object was deleted", Category.NAMES, "object", prepare=_delete),
    azure(
        "wrong-version", "The version of the object does not exist", Category.NAMES, "object",
        objects=[secret_entry(objectVersion="0123456789abcdef0123456789abcdef")],
    ),
    azure(
        "no-vault", "The vault does not exist", Category.NAMES, "vault",
        parameters={"keyvaultName": "no-such-kv"},
    ),
    azure(
        "no-class", "The SecretProviderClass does not exist", Category.NAMES, "class",
        pods=[pod("web", "wbe")], reasons=("FailedMount",), lint=("class-not-found",),
    ),
    azure(
        "class-elsewhere", "The SecretProviderClass is in another namespace", Category.NAMES,
        "class", pods=[pod("web", "shared")], more=[_SHARED], reasons=("FailedMount",),
        lint=("class-not-found",),
    ),
    azure(
        "other-provider", "The provider is misspelled", Category.NAMES, "class",
        provider="azrue", reasons=("FailedMount",), lint=("provider",),
    ),
    azure(
        "same-alias", "Two objects have the same path", Category.NAMES, "parameters",
        objects=[secret_entry(objectAlias="db"), secret_entry("db-user", objectAlias="db")],
        lint=("class",),
    ),
    azure(
        "path-traversal", "The path of a file leaves the volume", Category.NAMES, "parameters",
        objects=[secret_entry(objectAlias="../../etc/passwd")], lint=("class",),
    ),
    azure(
        "secret-key", "secretObjects names a file that does not exist", Category.NAMES, "secret",
        secret_objects=[secret_object("db", {"password": "password"})],
        lint=("secret-object",), **_SECRET,
    ),
    azure(
        "unknown-field", "A required parameter is misspelled", Category.NAMES, "parameters",
        parameters={"keyvaultName": None, "keyVaultName": "contoso"},
        lint=("class", "unknown-field"),
    ),
)  # fmt: skip

TYPES = (
    azure(
        "tls-of-text", "The Secret is of type kubernetes.io/tls, and the object is text",
        Category.TYPES, "secret", **_SECRET,
        secret_objects=[
            secret_object("tls", {"tls.crt": "db-password", "tls.key": "db-password"},
                          kind="kubernetes.io/tls")
        ],
    ),
    azure(
        "other-key", "The key does not belong to the certificate", Category.TYPES, "secret",
        prepare=_certificates, objects=[secret_entry("web"), secret_entry("api")], **_SECRET,
        secret_objects=[
            secret_object("tls", {"tls.crt": "web", "tls.key": "api"}, kind="kubernetes.io/tls")
        ],
    ),
    azure(
        "no-json-key", "jmesPath finds nothing", Category.TYPES, "rendering", prepare=_json,
        objects=[secret_entry(jmesPath=[{"path": "pasword", "objectAlias": "db"}])],
    ),
    azure(
        "template-file", "A template names a file that does not exist", Category.TYPES, "rendering",
        parameters={"templates": _TEMPLATE}, lint=("class",),
    ),
    azure(
        "wrong-encoding", "The value does not have its objectEncoding", Category.TYPES, "rendering",
        objects=[secret_entry(objectEncoding="hex")],
    ),
    azure(
        "object-type", "The objectType is misspelled", Category.TYPES, "parameters",
        objects=[{"objectName": "db-password", "objectType": "secrets"}], lint=("class",),
    ),
    azure(
        "not-a-cert", "The objectType is cert, and the object is a secret", Category.TYPES,
        "object", objects=[{"objectName": "db-password", "objectType": "cert"}],
    ),
)  # fmt: skip

ROTATION = (
    azure(
        "revoked-later", "A permission was removed after the mount", Category.ROTATION,
        "permission", later=_revoke, **_REFRESH,
    ),
    azure(
        "deleted-later", "The object was deleted after the mount", Category.ROTATION, "object",
        later=_delete, **_REFRESH,
    ),
    azure(
        "outage-later", "The vault fails during a refresh", Category.ROTATION, "vault",
        later=_outage, reasons=("MountRotationFailed",), alerts=(REFRESHES, UNAVAILABLE),
        varies=True,
    ),
    azure(
        "old-environment", "The environment variable of a container is old", Category.ROTATION,
        "environment", secret_objects=_DB, pods=[_ENV], later=_new_value, alerts=(),
        reasons=("MountRotationComplete",), no_alert="The mount and its refreshes succeed.",
    ),
    azure(
        "object-expired", "The object has expired", Category.ROTATION, "object", prepare=_expire,
        parameters={"expiryWarning": "30d"},
        reasons=("ObjectNearExpiry",), alerts=("KeyferryObjectExpired",),
    ),
)  # fmt: skip

LIMITS = (
    azure(
        "vault-throttles", "The vault throttles requests (429)", Category.LIMITS, "vault",
        prepare=_throttle, alerts=(MOUNTS, QUEUED, THROTTLES), varies=True,
    ),
    azure(
        "too-many", "find selects more objects than maxObjects", Category.LIMITS, "parameters",
        prepare=_many, objects=[{"find": {"name": {"regexp": "^shop-"}},
                                 "objectType": "secret", "maxObjects": 3}],
    ),
    azure(
        "over-quota", "The quota of the namespace is exceeded", Category.LIMITS, "secret",
        secret_objects=_DB, more=[_QUOTA], **_SECRET,
    ),
)  # fmt: skip

VERSIONS = (
    azure(
        "other-driver", "The volume names another CSI driver", Category.VERSIONS, "class",
        pods=[_OTHER_DRIVER], no_alert=_NOT_CALLED, **_KUBELET,
    ),
    azure(
        "newest-disabled", "The newest version of the object is disabled", Category.VERSIONS,
        "object", prepare=_disable_newest,
    ),
)  # fmt: skip

HANGS = (
    azure(
        "hanging-vault", "The vault does not respond", Category.NETWORK, "tcp", prepare=_hang,
        alerts=(MOUNTS, UNAVAILABLE),
        hangs=True, varies=True,
    ),
)  # fmt: skip

IMDS = (
    azure(
        "silent-imds", "IMDS does not respond", Category.IDENTITY, "tcp",
        parameters={"userAssignedIdentityID": OTHER_MACHINE}, prepare=_silence_imds,
        phase=Phase.IMDS, hangs=True, varies=True,
    ),
)  # fmt: skip

AZURE_ROWS = (*IMDS, *IDENTITY, *PERMISSIONS, *NAMES, *TYPES, *ROTATION, *LIMITS, *VERSIONS, *HANGS)
