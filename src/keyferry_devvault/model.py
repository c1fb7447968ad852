"""What the development vault knows: secrets, identities, how it is to misbehave. [pure]"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TENANT = "11111111-2222-4333-8444-555555555555"
"""The home tenant until somebody names a tenant: see `IdentityTable.home_tenant`."""

CLUSTER_ISSUER = "https://kubernetes.default.svc.cluster.local"
"""The issuer of the service-account tokens of the emulated cluster."""

EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
"""The audience that federated credentials ask for unless they say otherwise."""

SECRET_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
VAULT_NAME = re.compile(r"[0-9a-zA-Z-]{3,24}")
MAX_VALUE_BYTES = 25 * 1024


class Permission(StrEnum):
    """What an access policy can allow on the secrets of a vault."""

    GET = "get"
    LIST = "list"
    SET = "set"
    DELETE = "delete"
    RECOVER = "recover"
    PURGE = "purge"


class IdentityKind(StrEnum):
    """What can get a token."""

    APP = "app"
    """An app registration: signs in with its secret, or with a federated token."""
    USER_ASSIGNED = "user-assigned"
    """A managed identity of this machine that is asked for by its id."""
    SYSTEM_ASSIGNED = "system-assigned"
    """The managed identity that IMDS answers for when no id is given."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A service principal: who asks.

    Attributes:
        client_id: in lower case.
        tenant: in lower case.
        kind: which endpoints answer for it.
        secret_digest: SHA-256 of the client secret, None where it has none.
    """

    client_id: str
    tenant: str
    kind: IdentityKind
    secret_digest: bytes | None = field(default=None, repr=False)

    @property
    def object_id(self) -> str:
        """The `oid` of its tokens."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"devvault/{self.tenant}/{self.client_id}"))

    @property
    def resource_id(self) -> str:
        """The `msi_res_id` by which IMDS may be asked for it."""
        return (
            f"/subscriptions/{DEFAULT_TENANT}/resourcegroups/devvault/providers"
            f"/Microsoft.ManagedIdentity/userAssignedIdentities/{self.client_id}"
        )


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """A federated credential: a token with these three claims stands for the client."""

    client_id: str
    issuer: str
    subject: str
    audience: str


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version of a secret. Times in whole seconds since 1970.

    Attributes:
        version: 32 hexadecimal digits.
        value: never in a `repr`.
        expires: for clients only; the vault returns expired secrets, like Key Vault.
        not_before: likewise.
        of_certificate: whether it is the secret behind the certificate of the same name.
    """

    vault: str
    name: str
    version: str
    value: str = field(repr=False)
    content_type: str | None
    tags: Mapping[str, str] | None
    enabled: bool
    created: int
    updated: int
    expires: int | None
    not_before: int | None
    of_certificate: bool = False


@dataclass(frozen=True, slots=True)
class SecretAttributes:
    """What a writer may say about a version; None leaves it as it is, or at its default."""

    enabled: bool | None = None
    expires: int | None = None
    not_before: int | None = None
    content_type: str | None = None
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class DeletedSecret:
    """A secret that can still be recovered. Times in whole seconds since 1970."""

    latest: SecretVersion
    deleted_at: int
    purge_at: int


class ObjectKind(StrEnum):
    """What a vault holds beside secrets; the value is its collection in a URL."""

    KEY = "keys"
    CERTIFICATE = "certificates"

    @property
    def singular(self) -> str:
        """One of them, as a person calls it."""
        return self.value.removesuffix("s")


@dataclass(frozen=True, slots=True)
class VaultObjectVersion:
    """One version of a key or a certificate. Times in whole seconds since 1970.

    Attributes:
        version: 32 hexadecimal digits; a certificate shares it with its key and its secret.
        document: what it is made of; for a key `pem` (PKCS#8) and `kty`, for a certificate `cer`
            (base64 of DER) and `content_type` of its secret. Never in a `repr`.
    """

    kind: ObjectKind
    vault: str
    name: str
    version: str
    document: Mapping[str, str] = field(repr=False)
    enabled: bool
    created: int
    updated: int


@dataclass(frozen=True, slots=True)
class DeletedObject:
    """A key or certificate that can still be recovered. Times in whole seconds since 1970."""

    latest: VaultObjectVersion
    deleted_at: int
    purge_at: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the vault treats every request. Times in seconds."""

    latency: float = 0.0
    """Added to each answer of a vault."""
    throttle: int | None = None
    """Requests per second that one vault answers; None means all."""
    retry_after: int = 1
    """What a 429 asks for."""
    token_lifetime: int = 3600
    """How long access tokens are good for."""


@dataclass(frozen=True, slots=True)
class RespondStatus:
    """Answer with this status, and with `Retry-After` (seconds) where given."""

    status: int
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class CloseMidResponse:
    """Drop the connection in the middle of the body."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Never answer."""


FaultAction = RespondStatus | CloseMidResponse | Hang


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table of faults; the first one that matches a request is carried out.

    Attributes:
        match: the beginning of `host/path`, or, beginning with `/`, of the path on any host.
        action: what happens.
        remaining: how many more times; None for ever.
    """

    match: str
    action: FaultAction
    remaining: int | None = None

    def matches(self, host: str, path: str) -> bool:
        """Whether a request to `path` on `host` meets this fault."""
        subject = path if self.match.startswith("/") else host + path
        return subject.lower().startswith(self.match.lower())


def hash_client_secret(client_secret: str) -> bytes:
    """What is kept of a client secret."""
    return hashlib.sha256(client_secret.encode()).digest()
