"""The conditions `Create` and `Update` of upstream v0.0.4, for scripts that wait for them. [pure]

Only one of them describes an attempt: `Create` until the first success, `Update` afterwards.

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller/tree/v0.0.4
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.errors import SecretTypeRefusedError, StorePolicyError
from keyferry.kubernetes.syncs.objects import ConditionStatus
from keyferry.kubernetes.syncs.outcomes import SyncChange, Synced, SyncFailed, Waiting
from keyferry.kubernetes.syncs.reasons import Reason, reason_of

if TYPE_CHECKING:
    from keyferry.kubernetes.syncs.outcomes import SyncOutcome

CREATE = "Create"
UPDATE = "Update"
LEGACY_TYPES = (CREATE, UPDATE)

_POLICY = "ValidatingAdmissionPolicyCheckFailed"
_FAILURES: dict[Reason, tuple[ConditionStatus, str]] = {
    Reason.PROVIDER: (ConditionStatus.FALSE, "ProviderError"),
    Reason.INVALID_LABEL: (ConditionStatus.FALSE, "InvalidClusterSecretLabelError"),
    Reason.INVALID_ANNOTATION: (ConditionStatus.FALSE, "InvalidClusterSecretAnnotationError"),
    Reason.MISCONFIGURED: (ConditionStatus.FALSE, "ControllerSPCError"),
    Reason.FETCH_FAILED: (ConditionStatus.FALSE, "UserInputValidationFailed"),
    Reason.CONTROLLER: (ConditionStatus.UNKNOWN, "ControllerInternalError"),
    Reason.PATCH: (ConditionStatus.UNKNOWN, "UnknownError"),
}


class LegacyResult(Struct, frozen=True):
    """Type, status and reason of the condition that describes an attempt."""

    type: str
    status: ConditionStatus
    reason: str


def legacy_result(outcome: SyncOutcome, *, is_first: bool) -> LegacyResult | None:
    """Return what upstream v0.0.4 would report; None if there was no attempt.

    Args:
        outcome: of the attempt.
        is_first: whether the SecretSync has never been synced before.
    """
    match outcome:
        case Synced():
            status, reason = ConditionStatus.TRUE, _success_reason(outcome, is_first=is_first)
        case SyncFailed(error=StorePolicyError() | SecretTypeRefusedError()):
            status, reason = ConditionStatus.FALSE, _POLICY
        case SyncFailed(error=error):
            status, reason = _FAILURES[reason_of(error)]
        case Waiting():
            return None
        case _:
            assert_never(outcome)
    return LegacyResult(CREATE if is_first else UPDATE, status, reason)


def _success_reason(synced: Synced, *, is_first: bool) -> str:
    if synced.missing:
        return Reason.PARTIAL.value
    if is_first:
        return "CreateSucceeded"
    if synced.change is SyncChange.UNCHANGED:
        return "UpdateNoValueChangeSucceeded"
    return "UpdateValueChangeOrForceUpdateSucceeded"
