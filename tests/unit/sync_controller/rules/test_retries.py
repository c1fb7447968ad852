"""What the next attempt waits for after a failure."""

from __future__ import annotations

import pytest

from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    ConnectionFailedError,
    IdentityError,
    InternalError,
    KeyferryError,
    MountLimitError,
    ObjectNamesError,
    ObjectNotFoundError,
    ProviderNotFoundError,
    ProviderUnreachableError,
    SecretConflictError,
    SecretDataError,
    SecretNotManagedError,
    StoreError,
    StorePermissionError,
    StoreUnavailableError,
    VaultThrottledError,
)
from keyferry.kubernetes.syncs.sync_errors import CredentialsSecretError, TokenRequestError
from keyferry.sync_controller.rules.retries import (
    MAX_CLUSTER_SECONDS,
    MIN_CLUSTER_SECONDS,
    After,
    after_failure,
    cluster_backoff,
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (AccessDeniedError, After.BACKOFF),
        (ConnectionFailedError, After.BACKOFF),
        (IdentityError, After.BACKOFF),
        (ObjectNotFoundError, After.BACKOFF),
        (VaultThrottledError, After.BACKOFF),
        (ProviderNotFoundError, After.BACKOFF),
        (ProviderUnreachableError, After.BACKOFF),
        (InternalError, After.BACKOFF),
        (StoreError, After.BACKOFF),
        (StoreUnavailableError, After.BACKOFF),
        (StorePermissionError, After.BACKOFF),
        (MountLimitError, After.BACKOFF),
        (TokenRequestError, After.CLUSTER),
        (CredentialsSecretError, After.CLUSTER),
        (SecretConflictError, After.CLUSTER),
        (SecretNotManagedError, After.CLUSTER),
        (ClassInvalidError, After.INTERVAL),
        (ObjectNamesError, After.INTERVAL),
        (SecretDataError, After.INTERVAL),
    ],
)
def test_every_failure_is_repeated_some_time(kind: type[KeyferryError], expected: After) -> None:
    """What the controller does not watch may change without a notice."""
    assert expected is after_failure(kind("It is so", "Do this."))


def test_wait_for_the_cluster_grows_to_a_minute() -> None:
    """The user who repairs it should not wait long."""
    waits = [cluster_backoff(failures) for failures in range(1, 2000)]
    assert [5, 10, 20, 40, 60, 60] == waits[:6]
    assert (MIN_CLUSTER_SECONDS, MAX_CLUSTER_SECONDS) == (waits[0], waits[-1])
