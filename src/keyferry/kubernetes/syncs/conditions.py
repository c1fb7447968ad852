"""The conditions of a SecretSync after an attempt to sync it. [pure]

1. `Ready`: whether the Secret has the current content. Flux and `kubectl wait` read it.
2. `Reconciling` and `Stalled`: present only while they are true, as kstatus expects.
3. `SecretCreated` and `SecretUpdated`: those of upstream, with its reasons. A failure before the
   first success belongs to the former, a later one to the latter.
4. `Create` and `Update`: those of upstream v0.0.4, on request.

Conditions of other writers are kept.

Source: https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

from keyferry.kubernetes.objects import truncate_message
from keyferry.kubernetes.syncs.legacy_conditions import LEGACY_TYPES, legacy_result
from keyferry.kubernetes.syncs.objects import Condition, ConditionStatus
from keyferry.kubernetes.syncs.outcomes import Synced, SyncFailed, Waiting, failure_message
from keyferry.kubernetes.syncs.reasons import Reason, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.kubernetes.syncs.objects import SecretSync
    from keyferry.kubernetes.syncs.outcomes import SyncOutcome

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
SECRET_CREATED = "SecretCreated"  # noqa: S105 - the name of a condition
SECRET_UPDATED = "SecretUpdated"  # noqa: S105 - the name of a condition
OWN_TYPES = frozenset((READY, RECONCILING, STALLED, SECRET_CREATED, SECRET_UPDATED, *LEGACY_TYPES))

MAX_CONDITIONS = 16
"""Conditions that the CRD accepts."""
CREATED_MESSAGE = "Secret created successfully."
UP_TO_DATE_MESSAGE = "Secret contains last observed values."
"""These two are upstream's."""

_DEFAULT_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""`lastTransitionTime` of the condition that the CRD sets by default."""


def next_conditions(
    sync: SecretSync, outcome: SyncOutcome, *, now: datetime, legacy: bool = False
) -> tuple[Condition, ...]:
    """Return all conditions of a SecretSync after an attempt.

    Args:
        sync: with the status before the attempt.
        outcome: of the attempt.
        now: the time of a transition.
        legacy: whether to write the conditions of upstream v0.0.4, too.
    """
    wanted = [*_own_conditions(sync, outcome)]
    if legacy:
        wanted += _legacy_conditions(sync, outcome)
    own = tuple(_with_transition(sync, condition, now) for condition in wanted)
    return with_conditions_of_others(own, sync.status.conditions)


def with_conditions_of_others(
    conditions: tuple[Condition, ...], live: tuple[Condition, ...]
) -> tuple[Condition, ...]:
    """Return the conditions of the controller among `conditions`, and those of others in `live`."""
    own = [each for each in conditions if each.type in OWN_TYPES]
    others = [each for each in live if each.type not in OWN_TYPES]
    return (*own, *others[: MAX_CONDITIONS - len(own)])


def _own_conditions(sync: SecretSync, outcome: SyncOutcome) -> Iterator[Condition]:
    match outcome:
        case Synced():
            yield _ready(outcome)
            yield Condition(
                SECRET_CREATED, ConditionStatus.TRUE, Reason.CREATED.value, CREATED_MESSAGE
            )
            yield Condition(
                SECRET_UPDATED, ConditionStatus.TRUE, Reason.UP_TO_DATE.value, UP_TO_DATE_MESSAGE
            )
        case SyncFailed(error=error, stalled=stalled):
            reason, message = reason_of(error).value, failure_message(error)
            yield Condition(READY, ConditionStatus.FALSE, reason, message)
            yield (
                Condition(STALLED, ConditionStatus.TRUE, reason, message)
                if stalled
                else Condition(RECONCILING, ConditionStatus.TRUE, Reason.RETRYING.value, message)
            )
            failed = SECRET_UPDATED if sync.status.sync_hash else SECRET_CREATED
            for before in _upstream_before(sync):
                if before.type == failed:
                    yield Condition(failed, ConditionStatus.FALSE, reason, message)
                else:
                    yield before
        case Waiting(reason=reason, message=message):
            shown = truncate_message(message)
            yield Condition(READY, ConditionStatus.UNKNOWN, reason, shown)
            yield Condition(RECONCILING, ConditionStatus.TRUE, reason, shown)
            yield from _upstream_before(sync)
        case _:
            assert_never(outcome)


def _ready(synced: Synced) -> Condition:
    if synced.missing:
        text = f"Secret lacks optional objects that do not exist: {', '.join(synced.missing)}."
        reason = Reason.PARTIAL
    else:
        text, reason = UP_TO_DATE_MESSAGE, Reason.UP_TO_DATE
    message = truncate_message(f"{text} {synced.note}".strip())
    return Condition(READY, ConditionStatus.TRUE, reason.value, message)


def _upstream_before(sync: SecretSync) -> Iterator[Condition]:
    """Yield upstream's conditions as they are, or as upstream initializes them."""
    is_created = bool(sync.status.sync_hash)
    yield sync.status.condition(SECRET_CREATED) or (
        Condition(SECRET_CREATED, ConditionStatus.TRUE, Reason.CREATED.value, CREATED_MESSAGE)
        if is_created
        else Condition(SECRET_CREATED, ConditionStatus.UNKNOWN, Reason.SYNC_STARTING.value)
    )
    yield sync.status.condition(SECRET_UPDATED) or Condition(
        SECRET_UPDATED, ConditionStatus.UNKNOWN, Reason.NO_UPDATES_YET.value
    )


def _legacy_conditions(sync: SecretSync, outcome: SyncOutcome) -> Iterator[Condition]:
    result = legacy_result(outcome, is_first=not sync.status.sync_hash)
    for type_ in LEGACY_TYPES:
        if result is not None and result.type == type_:
            message = failure_message(outcome.error) if isinstance(outcome, SyncFailed) else ""
            yield Condition(type_, result.status, result.reason, message or UP_TO_DATE_MESSAGE)
        elif before := sync.status.condition(type_):
            yield before


def _with_transition(sync: SecretSync, condition: Condition, now: datetime) -> Condition:
    """Return a condition with its generation, and the time of its last transition."""
    before = sync.status.condition(condition.type)
    since = before.transitioned_at if before and before.status is condition.status else None
    return Condition(
        condition.type,
        condition.status,
        condition.reason,
        condition.message,
        now if since is None or since == _DEFAULT_TIME else since,
        sync.generation,
    )
