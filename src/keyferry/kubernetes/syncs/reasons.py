"""The reasons of conditions of a SecretSync, and which error has which. [pure]

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from keyferry.errors import (
    AuthorError,
    MountLimitError,
    ObjectNamesError,
    ProviderError,
    ProviderNotFoundError,
    ProviderUnreachableError,
    SecretDataError,
    SecretTypeRefusedError,
    StoreError,
    StoreUnavailableError,
)
from keyferry.kubernetes.syncs.sync_errors import (
    CredentialsSecretError,
    ReservedAnnotationError,
    ReservedLabelError,
    SyncInvalidError,
    TokenRequestError,
)

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError


class Reason(Enum):
    """The reasons of upstream, and `PartialSync` and `ProgressingWithRetry`."""

    SYNC_STARTING = "SyncStarting"
    NO_UPDATES_YET = "NoUpdatesAttemptedYet"
    CREATED = "CreateSuccessful"
    UP_TO_DATE = "SecretUpToDate"
    PROVIDER = "ProviderError"
    """The provider, or the vault behind it."""
    INVALID_LABEL = "InvalidClusterSecretLabelError"
    INVALID_ANNOTATION = "InvalidClusterSecretAnnotationError"
    CONTROLLER = "ControllerSyncError"
    """Everything else before the Secret is written, such as the token of the service account."""
    PATCH = "ControllerPatchError"
    """The Secret cannot be written."""
    MISCONFIGURED = "SecretProviderClassMisconfigured"
    FETCH_FAILED = "RemoteSecretStoreFetchFailed"
    """The files of the provider do not form the Secret."""
    PARTIAL = "PartialSync"
    """Optional objects are missing."""
    RETRYING = "ProgressingWithRetry"
    """Of `Reconciling` after a failure, as Flux has it."""


_REASONS: tuple[tuple[type[KeyferryError], Reason], ...] = (
    (ReservedLabelError, Reason.INVALID_LABEL),
    (ReservedAnnotationError, Reason.INVALID_ANNOTATION),
    (SyncInvalidError, Reason.CONTROLLER),
    (TokenRequestError, Reason.CONTROLLER),
    (CredentialsSecretError, Reason.CONTROLLER),
    (ObjectNamesError, Reason.FETCH_FAILED),
    (SecretTypeRefusedError, Reason.PATCH),
    (SecretDataError, Reason.FETCH_FAILED),
    (MountLimitError, Reason.PROVIDER),
    (AuthorError, Reason.MISCONFIGURED),
    (ProviderNotFoundError, Reason.MISCONFIGURED),
    (ProviderUnreachableError, Reason.PROVIDER),
    (ProviderError, Reason.PROVIDER),
    (StoreUnavailableError, Reason.CONTROLLER),
    (StoreError, Reason.PATCH),
)
"""The first type that fits counts."""


def reason_of(error: KeyferryError) -> Reason:
    """Return the reason of a condition for a failed attempt."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), Reason.CONTROLLER)
