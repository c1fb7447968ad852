"""Data types of the emulator: objects, identities, injected faults. [pure]"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

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
    """A permission that an access policy grants on a vault."""

    GET = "get"
    LIST = "list"
    SET = "set"
    DELETE = "delete"
    RECOVER = "recover"
    PURGE = "purge"


class IdentityKind(StrEnum):
    """The kinds of identities."""

    APP = "app"
    """An app registration: signs in with its secret, or with a federated token."""
    USER_ASSIGNED = "user-assigned"
    """A managed identity of this machine that is asked for by its id."""
    SYSTEM_ASSIGNED = "system-assigned"
    """The managed identity that IMDS answers for when no id is given."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity that can get tokens.

    Attributes:
        client_id: in lower case.
        tenant: in lower case.
        kind: determines the endpoints that issue its tokens.
        secret_digest: SHA-256 digest of the client secret; None if it has none.
    """

    client_id: str
    tenant: str
    kind: IdentityKind
    secret_digest: bytes | None = field(default=None, repr=False)

    @property
    def object_id(self) -> str:
        """Return the `oid` of its tokens."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"devvault/{self.tenant}/{self.client_id}"))

    @property
    def resource_id(self) -> str:
        """Return its `msi_res_id`, by which a request to IMDS can name it."""
        return (
            f"/subscriptions/{DEFAULT_TENANT}/resourcegroups/devvault/providers"
            f"/Microsoft.ManagedIdentity/userAssignedIdentities/{self.client_id}"
        )


class FederatedCredential(Struct, frozen=True):
    """A federated credential: a token with these three claims authenticates the client."""

    client_id: str
    issuer: str
    subject: str
    audience: str


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version of a secret. Times are Unix times in whole seconds.

    Attributes:
        version: 32 hexadecimal digits.
        value: never in a `repr`.
        expires: information for clients; expired secrets can be read, as in Key Vault.
        not_before: likewise.
        of_certificate: whether it is the secret of the certificate of the same name.
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


class SecretAttributes(Struct, frozen=True):
    """Attributes to set; None leaves the current value or the default."""

    enabled: bool | None = None
    expires: int | None = None
    not_before: int | None = None
    content_type: str | None = None
    tags: Mapping[str, str] | None = None


class DeletedSecret(Struct, frozen=True):
    """A secret that can still be recovered. Times are Unix times in whole seconds."""

    latest: SecretVersion
    deleted_at: int
    purge_at: int


class ObjectKind(StrEnum):
    """The kinds of objects other than secrets; the value is the collection in a URL."""

    KEY = "keys"
    CERTIFICATE = "certificates"

    @property
    def singular(self) -> str:
        """Return the noun for one object of this kind."""
        return self.value.removesuffix("s")


@dataclass(frozen=True, slots=True)
class VaultObjectVersion:
    """One version of a key or a certificate. Times are Unix times in whole seconds.

    Attributes:
        version: 32 hexadecimal digits; a certificate shares it with its key and its secret.
        document: its content; for a key `pem` (PKCS#8) and `kty`, for a certificate `cer`
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


class DeletedObject(Struct, frozen=True):
    """A key or certificate that can still be recovered. Times are Unix times in whole seconds."""

    latest: VaultObjectVersion
    deleted_at: int
    purge_at: int


class Tuning(Struct, frozen=True):
    """Latency, throttling and token lifetime. Times are in seconds."""

    latency: float = 0.0
    """Added to each answer of a vault."""
    throttle: int | None = None
    """Requests per second that one vault answers; None means all."""
    retry_after: int = 1
    """What a 429 asks for."""
    token_lifetime: int = 3600
    """How long access tokens are good for."""


class RespondStatus(Struct, frozen=True):
    """Respond with this status.

    Attributes:
        status: of the response.
        retry_after: its header `Retry-After` in seconds, or None.
        code: the inner code of Key Vault, such as `ForbiddenByFirewall`; "" for none.
    """

    status: int
    retry_after: int | None = None
    code: str = ""


class CloseMidResponse(Struct, frozen=True):
    """Close the connection in the middle of the body."""


class Hang(Struct, frozen=True):
    """Never respond."""


FaultAction = RespondStatus | CloseMidResponse | Hang


class Fault(Struct, frozen=True):
    """An injected fault; the first one that matches a request applies.

    Attributes:
        match: prefix of `host/path`, or, if it begins with `/`, of the path on any host.
        action: what happens.
        remaining: the number of requests that it still applies to; None for no limit.
    """

    match: str
    action: FaultAction
    remaining: int | None = None

    def matches(self, host: str, path: str) -> bool:
        """Return whether this fault applies to a request to `path` on `host`."""
        subject = path if self.match.startswith("/") else host + path
        return subject.lower().startswith(self.match.lower())


def hash_client_secret(client_secret: str) -> bytes:
    """Return the digest of a client secret, which is stored instead of it."""
    return hashlib.sha256(client_secret.encode()).digest()
