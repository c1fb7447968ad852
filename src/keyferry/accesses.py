"""What a mount read from vaults, object by object: the facts of the audit log. [pure]

A provider reports them with its result or its error. The process that knows the pod adds who read,
and writes the audit log. They cross process boundaries, so they are plain data. They never contain
a secret value, a token, or a digest of one.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from msgspec import Struct


class AccessSource(Enum):
    """Where the content of an object, or its error, came from."""

    VAULT = "vault"
    """The vault was asked for it."""
    CACHE = "cache"
    """The cache, without a request for this object."""
    REVALIDATED = "revalidated"
    """The cache, after the vault confirmed that it is current."""
    STALE = "stale"
    """The cache, because the vault is unavailable."""


class AccessOutcome(Enum):
    """What became of an access."""

    DELIVERED = "delivered"
    """The content was read; in a record of the audit log, also written to the volume."""
    NOT_DELIVERED = "not-delivered"
    """The content was read, but the mount failed for another reason."""
    NOT_FOUND = "not-found"
    """The vault has no such object."""
    DENIED = "denied"
    """The vault refused the identity."""
    FAILED = "failed"
    """The object could not be read for another reason."""


class ObjectAccess(NamedTuple):
    """One access to one object. A tuple, because each object of each mount makes one.

    Attributes:
        name: the object as the vault knows it, such as `secret/db-password`, or an API path.
        outcome: what became of it.
        source: where content or error came from; None if unknown.
        version: the version that was read; "" if unknown.
        seconds: how long the vault took; None if it was not asked.
        reason: the reason of the error, as in the metrics; "" for none.
        stage: the stage that failed; "" for none.
        status_versions: (id, version) of the entries of the pod status that depend on this access,
            if `version` alone does not identify the content in the pod status.
    """

    name: str
    outcome: AccessOutcome
    source: AccessSource | None = None
    version: str = ""
    seconds: float | None = None
    reason: str = ""
    stage: str = ""
    status_versions: tuple[tuple[str, str], ...] = ()


IDENTITY_FIELDS = frozenset(
    {
        "mode",
        "tenantID",
        "clientID",
        "objectID",
        "resourceID",
        "namespace",
        "authMount",
        "role",
    }
)
"""The names by which a vault or a token endpoint knows an identity."""


class VaultAccess(Struct, frozen=True):
    """What one mount read from one vault as one identity.

    Attributes:
        vault: the host of the vault.
        identity: the names of the identity, as (field of `IDENTITY_FIELDS`, value), beginning with
            its mode.
        objects: the objects; none if the identity was refused before it could read any.
    """

    vault: str
    identity: tuple[tuple[str, str], ...]
    objects: tuple[ObjectAccess, ...] = ()
