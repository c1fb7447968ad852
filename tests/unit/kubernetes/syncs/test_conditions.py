"""keyferry.kubernetes.syncs.conditions: what the status says after each outcome."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from keyferry.errors import (
    AccessDeniedError,
    ClassInvalidError,
    ClassNotFoundError,
    ConnectionFailedError,
    FilesInvalidError,
    InternalError,
    KeyferryError,
    MountLimitError,
    ObjectNamesError,
    ObjectNotFoundError,
    ProviderNotFoundError,
    ProviderReportedError,
    ProviderUnreachableError,
    SecretConflictError,
    SecretDataError,
    SecretNotManagedError,
    SecretTypeRefusedError,
    StoreError,
    StorePermissionError,
    StorePolicyError,
    StoreUnavailableError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.conditions import next_conditions
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP
from keyferry.kubernetes.syncs.objects import (
    Condition,
    ConditionStatus,
    SecretSync,
    SyncStatus,
)
from keyferry.kubernetes.syncs.outcomes import (
    SyncChange,
    Synced,
    SyncFailed,
    SyncOutcome,
    Waiting,
)
from keyferry.kubernetes.syncs.sync_errors import (
    CredentialsSecretError,
    ReservedAnnotationError,
    ReservedLabelError,
    SyncInvalidError,
    TokenRequestError,
)
from keyferry.records import replace
from tests.fakes.syncs import served, sync_manifest

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
DENIED = SyncFailed(AccessDeniedError("contoso denies access", "Grant get."), stalled=False)
CREATED = Synced(SyncChange.CREATED)
PENDING = Condition(
    "Ready",
    ConditionStatus.UNKNOWN,
    "Pending",
    "Waiting for the controller.",
    datetime(1970, 1, 1, tzinfo=UTC),
)
"""What the CRD sets by default."""


def secret_sync(status: SyncStatus | None = None) -> SecretSync:
    sync = parse_sync(served(sync_manifest()), UPSTREAM_GROUP)
    return replace(sync, status=status or SyncStatus())


def after(*outcomes: SyncOutcome, legacy: bool = False) -> dict[str, Condition]:
    """Return the conditions after some attempts, one per hour."""
    sync = secret_sync(SyncStatus(conditions=(PENDING,)))
    for hours, outcome in enumerate(outcomes):
        now = NOON + timedelta(hours=hours)
        conditions = next_conditions(sync, outcome, now=now, legacy=legacy)
        sync_hash = "kf1:x" if isinstance(outcome, Synced) else sync.status.sync_hash
        sync = replace(sync, status=SyncStatus(conditions, sync_hash=sync_hash))
    return {condition.type: condition for condition in sync.status.conditions}


def short(conditions: dict[str, Condition]) -> dict[str, str]:
    return {
        type_: f"{condition.status.value} {condition.reason}"
        for type_, condition in conditions.items()
    }


def test_first_success_is_ready() -> None:
    """With the conditions of upstream, word for word."""
    conditions = after(CREATED)
    assert short(conditions) == {
        "Ready": "True SecretUpToDate",
        "SecretCreated": "True CreateSuccessful",
        "SecretUpdated": "True SecretUpToDate",
    }
    assert conditions["SecretCreated"].message == "Secret created successfully."
    assert conditions["SecretUpdated"].message == "Secret contains last observed values."
    assert {c.observed_generation for c in conditions.values()} == {3}


def test_failure_before_the_first_success_is_one_of_creation() -> None:
    """It is retried, so kstatus calls it in progress."""
    conditions = after(DENIED)
    assert short(conditions) == {
        "Ready": "False ProviderError",
        "Reconciling": "True ProgressingWithRetry",
        "SecretCreated": "False ProviderError",
        "SecretUpdated": "Unknown NoUpdatesAttemptedYet",
    }
    assert conditions["Ready"].message == "contoso denies access. Grant get."
    assert conditions["Reconciling"].message == conditions["Ready"].message


def test_failure_after_a_success_is_one_of_an_update() -> None:
    """The Secret still exists."""
    assert short(after(CREATED, DENIED)) == {
        "Ready": "False ProviderError",
        "Reconciling": "True ProgressingWithRetry",
        "SecretCreated": "True CreateSuccessful",
        "SecretUpdated": "False ProviderError",
    }


def test_success_clears_every_failure() -> None:
    """Also if the content is the same; upstream leaves the failure."""
    recovered = after(CREATED, DENIED, Synced(SyncChange.UNCHANGED))
    assert short(recovered) == short(after(CREATED))


def test_stalled_failure_waits_for_somebody() -> None:
    """Then kstatus calls it failed."""
    error = ClassNotFoundError("no such class", "Apply it.")
    assert short(after(SyncFailed(error, stalled=True))) == {
        "Ready": "False SecretProviderClassMisconfigured",
        "Stalled": "True SecretProviderClassMisconfigured",
        "SecretCreated": "False SecretProviderClassMisconfigured",
        "SecretUpdated": "Unknown NoUpdatesAttemptedYet",
    }
    assert "Stalled" not in after(SyncFailed(error, stalled=True), DENIED)


def test_waiting_secret_sync_is_unknown() -> None:
    """As upstream initializes its own conditions."""
    assert short(after(Waiting("Queued", "10 SecretSyncs come first."))) == {
        "Ready": "Unknown Queued",
        "Reconciling": "True Queued",
        "SecretCreated": "Unknown SyncStarting",
        "SecretUpdated": "Unknown NoUpdatesAttemptedYet",
    }


def test_waiting_keeps_the_results_of_upstream_conditions() -> None:
    """Nothing was attempted."""
    waiting = short(after(CREATED, DENIED, Waiting("Queued", "Later.")))
    assert waiting["SecretUpdated"] == "False ProviderError"
    assert waiting["SecretCreated"] == "True CreateSuccessful"


def test_missing_optional_objects_make_it_partial() -> None:
    """It is ready all the same."""
    ready = after(Synced(SyncChange.UPDATED, missing=("secret/a", "secret/b"), note="Read it."))
    assert short(ready)["Ready"] == "True PartialSync"
    assert ready["Ready"].message == (
        "Secret lacks optional objects that do not exist: secret/a, secret/b. Read it."
    )


def test_transition_time_changes_only_with_the_status() -> None:
    """Not with the reason, and not with the generation."""
    conditions = after(CREATED, Synced(SyncChange.UPDATED, missing=("a",)), DENIED, DENIED)
    assert conditions["SecretCreated"].transitioned_at == NOON
    assert conditions["Ready"].transitioned_at == NOON + timedelta(hours=2)
    assert conditions["Reconciling"].transitioned_at == NOON + timedelta(hours=2)


def test_time_of_the_default_condition_is_replaced() -> None:
    """1970 is no transition."""
    assert after(Waiting("Queued", "Later."))["Ready"].transitioned_at == NOON


def test_conditions_of_other_writers_are_kept() -> None:
    """At most as many as the CRD accepts."""
    theirs = Condition("Approved", ConditionStatus.TRUE, "ByHand", "", NOON, 1)
    sync = secret_sync(SyncStatus(conditions=(theirs, PENDING)))
    assert next_conditions(sync, CREATED, now=LATER)[-1] == theirs
    many = tuple(replace(theirs, type=f"T{number}") for number in range(16))
    conditions = next_conditions(secret_sync(SyncStatus(many)), CREATED, now=LATER)
    assert len(conditions) == 16
    assert conditions[0].type == "Ready"


ERRORS: Sequence[tuple[KeyferryError, str, str]] = (
    (ClassNotFoundError("p"), "SecretProviderClassMisconfigured", "False ControllerSPCError"),
    (ClassInvalidError("p"), "SecretProviderClassMisconfigured", "False ControllerSPCError"),
    (ProviderNotFoundError("p"), "SecretProviderClassMisconfigured", "False ControllerSPCError"),
    (SyncInvalidError("p"), "ControllerSyncError", "Unknown ControllerInternalError"),
    (
        ReservedLabelError("p"),
        "InvalidClusterSecretLabelError",
        "False InvalidClusterSecretLabelError",
    ),
    (
        ReservedAnnotationError("p"),
        "InvalidClusterSecretAnnotationError",
        "False InvalidClusterSecretAnnotationError",
    ),
    (ObjectNamesError("p"), "RemoteSecretStoreFetchFailed", "False UserInputValidationFailed"),
    (SecretDataError("p"), "RemoteSecretStoreFetchFailed", "False UserInputValidationFailed"),
    (
        SecretTypeRefusedError("p"),
        "ControllerPatchError",
        "False ValidatingAdmissionPolicyCheckFailed",
    ),
    (MountLimitError("p"), "ProviderError", "False ProviderError"),
    (ProviderUnreachableError("p"), "ProviderError", "False ProviderError"),
    (ProviderReportedError("p", code=2, reason="x"), "ProviderError", "False ProviderError"),
    (FilesInvalidError("p"), "ProviderError", "False ProviderError"),
    (AccessDeniedError("p"), "ProviderError", "False ProviderError"),
    (ObjectNotFoundError("p"), "ProviderError", "False ProviderError"),
    (ConnectionFailedError("p"), "ProviderError", "False ProviderError"),
    (VaultThrottledError("p"), "ProviderError", "False ProviderError"),
    (VaultUnavailableError("p"), "ProviderError", "False ProviderError"),
    (TokenRequestError("p", "r"), "ControllerSyncError", "Unknown ControllerInternalError"),
    (CredentialsSecretError("p", "r"), "ControllerSyncError", "Unknown ControllerInternalError"),
    (StoreUnavailableError("p"), "ControllerSyncError", "Unknown ControllerInternalError"),
    (StoreError("p"), "ControllerPatchError", "Unknown UnknownError"),
    (StorePermissionError("p"), "ControllerPatchError", "Unknown UnknownError"),
    (
        StorePolicyError("p"),
        "ControllerPatchError",
        "False ValidatingAdmissionPolicyCheckFailed",
    ),
    (SecretNotManagedError("p"), "ControllerPatchError", "Unknown UnknownError"),
    (
        SecretConflictError("p", "r", owner_class="x"),
        "ControllerPatchError",
        "Unknown UnknownError",
    ),
    (InternalError("p"), "ControllerSyncError", "Unknown ControllerInternalError"),
)


@pytest.mark.parametrize(("error", "reason", "legacy"), ERRORS, ids=lambda x: type(x).__name__)
def test_each_error_has_a_reason_of_upstream(
    error: KeyferryError, reason: str, legacy: str
) -> None:
    """One of main, and one of v0.0.4."""
    conditions = short(after(SyncFailed(error, stalled=False), legacy=True))
    assert conditions["SecretCreated"] == f"False {reason}"
    assert conditions["Create"] == legacy


# --- conditions of v0.0.4 -------------------------------------------------------------------------


def test_legacy_conditions_are_written_on_request() -> None:
    """Create until the first success, then Update."""
    updated = Synced(SyncChange.UPDATED)
    assert short(after(CREATED, legacy=True))["Create"] == "True CreateSucceeded"
    assert "Update" not in after(CREATED, legacy=True)
    conditions = short(after(CREATED, updated, legacy=True))
    assert conditions["Create"] == "True CreateSucceeded"
    assert conditions["Update"] == "True UpdateValueChangeOrForceUpdateSucceeded"
    unchanged = short(after(CREATED, Synced(SyncChange.UNCHANGED), legacy=True))
    assert unchanged["Update"] == "True UpdateNoValueChangeSucceeded"
    partial = short(after(CREATED, Synced(SyncChange.UPDATED, missing=("a",)), legacy=True))
    assert partial["Update"] == "True PartialSync"
    assert short(after(CREATED, DENIED, legacy=True))["Update"] == "False ProviderError"
    assert "Create" not in after(Waiting("Queued", "Later."), legacy=True)


def test_legacy_conditions_of_another_controller_are_removed() -> None:
    """Nothing would update them any more."""
    stale = Condition("Create", ConditionStatus.TRUE, "CreateSucceeded", "", NOON)
    sync = secret_sync(SyncStatus(conditions=(stale,)))
    assert "Create" not in [c.type for c in next_conditions(sync, DENIED, now=LATER)]


# --- messages -------------------------------------------------------------------------------------


def test_long_message_keeps_its_remedy() -> None:
    """The problem is cut, because the remedy is what helps."""
    error = AccessDeniedError("x" * 2000, "Grant get to web.")
    (message,) = {
        c.message for t, c in after(SyncFailed(error, stalled=True)).items() if t != "SecretUpdated"
    }
    assert len(message) == 1024
    assert message.endswith("xxx... Grant get to web.")
    endless = AccessDeniedError("x" * 2000, "y" * 2000)
    assert len(after(SyncFailed(endless, stalled=True))["Ready"].message) == 1024


def test_message_has_neither_detail_nor_prefix_of_upstream() -> None:
    """A detail differs each time, and the prefix repeats what the condition is about."""
    error = AccessDeniedError("contoso denies access", "Grant get.")
    error.upstream_prefix = "failed to mount secrets store objects for pod a/b, err: "
    error.add_detail("attempt 3")
    ready = after(SyncFailed(error, stalled=False))["Ready"]
    assert ready.message == "contoso denies access. Grant get."


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("it is not base64", "secret db: it is not base64. Remove objectEncoding."),
        ("failed to read secret db", "failed to read secret db. Remove objectEncoding."),
    ],
)
def test_message_names_the_object_once(problem: str, message: str) -> None:
    error = FilesInvalidError(problem, "Remove objectEncoding.")
    error.object_name = "secret db"
    ready = after(SyncFailed(error, stalled=False))["Ready"]
    assert ready.message == message
