"""What the next attempt to sync a SecretSync waits for, after a failure. [pure]"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from keyferry.errors import (
    AuthorError,
    MountLimitError,
    SecretConflictError,
    SecretNotManagedError,
    StoreUnavailableError,
)
from keyferry.kubernetes.syncs.sync_errors import CredentialsSecretError, TokenRequestError

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError

MIN_CLUSTER_SECONDS = 5.0
MAX_CLUSTER_SECONDS = 60.0


class After(Enum):
    """What the next attempt waits for."""

    CHANGE = "change"
    """A change of an object that the controller watches."""
    INTERVAL = "interval"
    """The next refresh: the content in the vault may change."""
    CLUSTER = "cluster"
    """A short time: somebody may change an object that the controller does not watch, such as a
    service account, a Role or a Secret of another client."""
    BACKOFF = "backoff"
    """A growing time: the vault or the API is unavailable."""


def after_failure(error: KeyferryError) -> After:
    """Return what to wait for after a failed attempt."""
    match error:
        case StoreUnavailableError():
            return After.BACKOFF
        case TokenRequestError() | CredentialsSecretError():
            return After.CLUSTER
        case SecretConflictError() | SecretNotManagedError():
            return After.CLUSTER
        case MountLimitError():
            return After.BACKOFF  # perhaps of all mounts of the namespace at that time
        case AuthorError():
            return After.INTERVAL
        case _:
            return After.BACKOFF


def cluster_backoff(failures: int) -> float:
    """Return the seconds until the next attempt, after this number of failures in a row."""
    return min(MAX_CLUSTER_SECONDS, MIN_CLUSTER_SECONDS * 2.0 ** min(failures - 1, 10))
