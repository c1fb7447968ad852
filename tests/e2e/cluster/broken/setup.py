"""What a broken set-up is: its objects, how it is broken, and what the tools should say."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

import yaml

from tests.e2e.cluster.broken.world import World
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import MACHINE, pod, secret_provider_class
from tests.fakes.devvault import DEFAULT_TENANT

VALUE = "canary-value-7f3a91c05d"
"""The value of secrets; no output may contain it."""
CLIENT_SECRET = "canary-client-secret-19be6203"
WRONG_SECRET = "canary-wrong-secret-c47d80aa"
CANARIES = (VALUE, CLIENT_SECRET, WRONG_SECRET)

MOUNTS = "KeyferryMountsFail"
REFRESHES = "KeyferryRefreshFails"
SECRETS = "KeyferrySecretSyncFails"
UNAVAILABLE = "KeyferryVaultUnavailable"
THROTTLES = "KeyferryVaultThrottles"
QUEUED = "KeyferryVaultRequestsQueued"
SYNC_FAILS = "KeyferrySecretSyncNotReady"


class Category(StrEnum):
    """The headings of the page."""

    IDENTITY = "Identity"
    NETWORK = "Network and availability"
    TLS = "TLS"
    PERMISSIONS = "Permissions"
    NAMES = "Names"
    TYPES = "Types and content"
    ROTATION = "Rotation"
    LIMITS = "Quotas and limits"
    VERSIONS = "Versions"
    SYNCS = "SecretSyncs"


class Phase(Enum):
    """The installations of the chart, one after the other."""

    AZURE = "azure"
    """With the development vault, for the provider azure."""
    IMDS = "imds"
    """The same, after IMDS has failed for all."""
    VAULT = "vault"
    """Without it, with a real OpenBao server, for the others."""


Steps = Callable[[World, "BrokenSetup"], Awaitable[None] | None]


@dataclass(frozen=True)
class BrokenSetup:
    """One way to break a set-up.

    Attributes:
        name: of its namespace.
        title: what is wrong, for the page.
        category: the heading.
        phase: the installation that it needs.
        documents: the objects to apply; `$NAME` is replaced by an address of the world.
        doctor: the stage that doctor should name.
        alerts: the alerts that should fire.
        no_alert: why none fires.
        lint: the rules that should report it.
        reasons: the events that describe it; the first one is waited for.
        prepare: changes the vault before the objects are applied.
        later: breaks the set-up once its pod is ready.
        target: what doctor diagnoses.
        about: the kind and name of the object that is described.
        doctor_options: further options of doctor.
        hangs: whether a server does not respond, so that doctor has to wait.
        varies: whether texts and some alerts about the vault depend on when its circuit breaker is
            open, and on how long requests wait.
    """

    name: str
    title: str
    category: Category
    phase: Phase
    documents: tuple[Document, ...]
    doctor: str
    alerts: tuple[str, ...] = (MOUNTS,)
    no_alert: str = ""
    lint: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ("FailedToMountObjects",)
    prepare: Steps | None = None
    later: Steps | None = None
    target: str = "pod/web"
    about: str = "pod/web"
    doctor_options: tuple[str, ...] = ()
    hangs: bool = False
    varies: bool = False

    @property
    def vault(self) -> str:
        """The name of its own Key Vault."""
        return f"{self.name}-kv"

    def rendered(self, addresses: Mapping[str, str]) -> list[Document]:
        """Return the objects with the addresses of a world."""
        text = json.dumps(self.documents)
        for name in sorted(addresses, key=len, reverse=True):
            text = text.replace(f"${name}", addresses[name])
        documents: list[Document] = json.loads(text)
        return documents


def entries(*objects: Mapping[str, object]) -> str:
    """Return the parameter `objects` of the provider azure."""
    return yaml.safe_dump({"array": [yaml.safe_dump(dict(each)) for each in objects]})


def secret_entry(name: str = "db-password", **fields: object) -> dict[str, object]:
    """Return an entry of `objects` for a secret of a Key Vault."""
    return {"objectName": name, "objectType": "secret", **fields}


def azure(
    name: str,
    title: str,
    category: Category,
    doctor: str,
    *,
    parameters: Mapping[str, str | None] | None = None,
    objects: Sequence[Mapping[str, object]] | None = None,
    secret_objects: Sequence[Document] = (),
    more: Sequence[Document] = (),
    pods: Sequence[Document] | None = None,
    provider: str = "azure",
    **rest: Any,
) -> BrokenSetup:
    """Return a set-up with a SecretProviderClass for Azure Key Vault and a pod.

    Args:
        name: of the namespace.
        title: what is wrong.
        category: the heading.
        doctor: the expected stage.
        parameters: replace those of the node's managed identity; None removes one.
        objects: the entries; one secret by default.
        secret_objects: the entries of `secretObjects`.
        more: further objects.
        pods: replace the pod.
        provider: of the SecretProviderClass.
        rest: further attributes of the row.
    """
    usual: dict[str, str | None] = {
        "keyvaultName": f"{name}-kv",
        "tenantID": DEFAULT_TENANT,
        "useVMManagedIdentity": "true",
        "userAssignedIdentityID": MACHINE,
        "objects": entries(*(objects or [secret_entry()])),
        **(parameters or {}),
    }
    chosen = {key: value for key, value in usual.items() if value is not None}
    spc = secret_provider_class("web", provider, chosen, secret_objects)
    users = [pod("web", "web")] if pods is None else pods
    phase = rest.pop("phase", Phase.AZURE)
    return BrokenSetup(name, title, category, phase, (spc, *more, *users), doctor, **rest)


WORKLOAD: dict[str, str | None] = {"useVMManagedIdentity": None, "userAssignedIdentityID": None}
"""The parameters without a managed identity."""


def vault(
    name: str,
    title: str,
    category: Category,
    doctor: str,
    *,
    parameters: Mapping[str, str | None] | None = None,
    objects: Sequence[Mapping[str, object]] | None = None,
    secret_objects: Sequence[Document] = (),
    more: Sequence[Document] = (),
    pods: Sequence[Document] | None = None,
    **rest: Any,
) -> BrokenSetup:
    """Return a set-up with a SecretProviderClass for OpenBao and a pod; see `azure`."""
    usual: dict[str, str | None] = {
        "vaultAddress": "$BAO",
        "vaultCACertPath": "$CA",
        "roleName": name,
        "audience": "vault",
        "objects": yaml.safe_dump([dict(each) for each in objects or [PASSWORD]]),
        **(parameters or {}),
    }
    chosen = {key: value for key, value in usual.items() if value is not None}
    spc = secret_provider_class("web", "openbao", chosen, secret_objects)
    users = [pod("web", "web")] if pods is None else pods
    return BrokenSetup(name, title, category, Phase.VAULT, (spc, *more, *users), doctor, **rest)


PASSWORD = {"objectName": "password", "secretPath": "secret/data/db", "secretKey": "password"}
"""An entry of `objects` for OpenBao."""
