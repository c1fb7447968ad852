"""Decides what has to be done for a SecretSync. [pure]

Times are seconds of the monotonic clock.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import ClassInvalidError, KeyferryError
from keyferry.kubernetes.class_codec import class_not_found_error
from keyferry.kubernetes.syncs.conditions import READY
from keyferry.kubernetes.syncs.objects import ConditionStatus
from keyferry.sync_controller.rules.refusals import namespace_error, opt_in_error

if TYPE_CHECKING:
    from keyferry.kubernetes.objects import SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync, ServiceAccountOptIn, SyncOptions
    from keyferry.sync_controller.settings import Scope


class Trigger(Enum):
    """Why a SecretSync is synced. The first that applies counts."""

    FIRST = "first"
    """It has never been synced."""
    REQUESTED = "requested"
    """Somebody asked for a refresh."""
    CHANGED = "changed"
    """It, or its SecretProviderClass, changed."""
    DRIFT = "drift"
    """Its Secret was changed or deleted by somebody else."""
    RETRY = "retry"
    """The last attempt failed."""
    LEASE = "lease"
    """A dynamic secret cannot be renewed any more, or another process renewed it."""
    DUE = "due"
    """The interval has passed."""


class Marks(Struct, frozen=True):
    """What a sync answers. Two equal ones with the same Secret need no sync.

    Attributes:
        generation: of the SecretSync.
        class_version: `uid/generation` of the SecretProviderClass.
        force: `spec.forceSynchronization`.
        refresh: the annotations `keyferry.dev/refresh` of SecretSync and SecretProviderClass.
    """

    generation: int
    class_version: str
    force: str
    refresh: str

    @classmethod
    def of(cls, sync: SecretSync, spc: SecretProviderClass) -> Marks:
        """Return the marks that a sync from now on answers."""
        marks = sync.options.refresh_mark, spc.refresh_mark
        refresh = "/".join(marks) if any(marks) else ""
        return cls(sync.generation, spc.version, sync.force_synchronization, refresh)

    @classmethod
    def answered(cls, sync: SecretSync) -> Marks:
        """Return the marks that the status says were answered."""
        status = sync.status
        return cls(
            status.observed_generation,
            status.observed_class,
            status.observed_force,
            status.observed_refresh,
        )


class LastSync(Struct, frozen=True):
    """The last successful sync, of this process or of an earlier one.

    Attributes:
        marks: what it answered.
        options: of the SecretSync. Its annotations do not change its generation.
        secret: `uid/resourceVersion` of the Secret after it; "" if it was left out.
        is_stale: whether an attempt failed since then.
        next_at: when the next refresh is due; None for never.
    """

    marks: Marks
    options: SyncOptions
    secret: str
    is_stale: bool
    next_at: float | None


class Facts(Struct, frozen=True):
    """What the decision depends on.

    Attributes:
        sync: the SecretSync.
        spc: its SecretProviderClass; the error if it is invalid; None if it does not exist.
        secret: `uid/resourceVersion` of its Secret; "" without one that has the label; None if
            that is unknown.
        opt_in: its service account, if it opted in.
        requires_opt_in: whether it has to.
        last: the last successful sync, or None.
        lost_lease: whether a dynamic secret has to be replaced.
        now: the time.
        requested_at: when the last request for a refresh was first seen.
    """

    sync: SecretSync
    spc: SecretProviderClass | ClassInvalidError | None
    secret: str | None
    opt_in: ServiceAccountOptIn | None
    requires_opt_in: bool
    last: LastSync | None
    lost_lease: bool
    now: float
    requested_at: float = 0.0


class Ignore(Struct, frozen=True):
    """Another controller handles it, or it is being deleted."""


class Refuse(Struct, frozen=True):
    """It cannot be synced until somebody changes something."""

    error: KeyferryError


class UpToDate(Struct, frozen=True):
    """Its Secret is right.

    Attributes:
        next_at: when the next refresh is due; None for never.
    """

    next_at: float | None


class Sync(Struct, frozen=True):
    """Fetch and write."""

    spc: SecretProviderClass
    trigger: Trigger


Decision = Ignore | Refuse | UpToDate | Sync


def decide(facts: Facts, scope: Scope) -> Decision:
    """Return what to do for a SecretSync.

    Args:
        facts: what is known of it.
        scope: which SecretSyncs this controller handles.
    """
    sync, spc = facts.sync, facts.spc
    if sync.terminating or not scope.handles(sync.controller_name):
        return Ignore()
    if error := _refusal(facts, scope):
        return Refuse(error)
    assert spc is not None
    assert not isinstance(spc, ClassInvalidError)
    if trigger := _trigger(facts, Marks.of(sync, spc)):
        return Sync(spc, trigger)
    assert facts.last is not None
    return UpToDate(facts.last.next_at)


def _refusal(facts: Facts, scope: Scope) -> KeyferryError | None:
    sync, spc = facts.sync, facts.spc
    if not scope.lists(sync.ref.namespace):
        return namespace_error(sync.ref.namespace)
    if sync.invalid is not None:
        return sync.invalid.error()
    if spc is None:
        return class_not_found_error(
            sync.ref.namespace,
            sync.class_name,
            "Create it in the namespace of the SecretSync, or correct secretProviderClassName.",
        )
    if isinstance(spc, ClassInvalidError):
        return ClassInvalidError(spc.problem, spc.remedy)
    if facts.requires_opt_in:
        return opt_in_error(sync, facts.opt_in)
    return None


def _trigger(facts: Facts, marks: Marks) -> Trigger | None:
    last = facts.last
    if last is None:
        return Trigger.FIRST
    asked = (marks.force, marks.refresh) != (last.marks.force, last.marks.refresh)
    changed = marks != last.marks or facts.sync.options != last.options
    is_due = last.next_at is not None and facts.now >= last.next_at
    reasons = (
        (asked, Trigger.REQUESTED),
        (changed, Trigger.CHANGED),
        (facts.secret not in (None, last.secret), Trigger.DRIFT),
        (last.is_stale, Trigger.RETRY),
        (facts.lost_lease, Trigger.LEASE),
        (is_due, Trigger.DUE),
    )
    return next((trigger for applies, trigger in reasons if applies), None)


def last_sync_of(sync: SecretSync, *, next_at: float | None) -> LastSync | None:
    """Return the last successful sync that the status of a SecretSync records, or None.

    Args:
        sync: the SecretSync, whose options count as those of then.
        next_at: when the next refresh is due.
    """
    status = sync.status
    if not status.sync_hash or not status.observed_class:
        return None
    ready = status.condition(READY)
    is_ready = ready is not None and ready.status is ConditionStatus.TRUE
    marks = Marks.answered(sync)
    return LastSync(marks, sync.options, status.observed_secret, not is_ready, next_at)
