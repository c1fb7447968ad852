"""Makes the outcome of an attempt known: status, events, metrics, log.

Nothing is written that has not changed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.content import MISSING_VERSION, ObjectVersion
from keyferry.errors import (
    ClassInvalidError,
    KeyferryError,
    SecretConflictError,
    StoreUnavailableError,
)
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.kubernetes.objects import ApplyOutcome
from keyferry.kubernetes.pod_status import version_changes
from keyferry.kubernetes.syncs.conditions import READY
from keyferry.kubernetes.syncs.objects import ConditionStatus
from keyferry.kubernetes.syncs.outcomes import SyncChange, Synced, SyncFailed
from keyferry.providers.expiry import near_expiry_states, near_expiry_warnings
from keyferry.sync_controller.rules import events
from keyferry.sync_controller.rules.status import failed_status, synced_status
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.objects import ApplyResult, SecretProviderClass
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncKey, SyncStatus
    from keyferry.providers.api import MountResult
    from keyferry.sync_controller.interfaces import EventSink, StatusWriter, SyncView
    from keyferry.sync_controller.rules.decision import Marks
    from keyferry.sync_controller.settings import SyncControllerSettings
    from keyferry.telemetry.sync_metrics import SyncMetrics

_log = get_logger("sync")


class Written(Struct, frozen=True):
    """What became of the Secret.

    Attributes:
        result: of the write; None if the Secret was left out.
        secret: `uid/resourceVersion` after it; "" without a Secret.
    """

    result: ApplyResult | None
    secret: str

    @property
    def outcome(self) -> str:
        """What was done, for the metrics."""
        return "left_out" if self.result is None else self.result.outcome.name.lower()


class Answer(Struct, frozen=True):
    """What a success answers.

    Attributes:
        marks: generations and requests.
        digest: the new `syncHash`.
        note: what else to know, a sentence; may be "".
        ages: whether it is refreshed in the interval of the controller.
    """

    marks: Marks
    digest: str
    note: str = ""
    ages: bool = True


class SyncReporter:
    """Reports on SecretSyncs.

    Args:
        view: the cached objects of the cluster.
        statuses: writes statuses.
        event_sink: records events.
        metrics: counts.
        settings: of the controller.
        clock: the time.
    """

    def __init__(
        self,
        *,
        view: SyncView,
        statuses: StatusWriter,
        event_sink: EventSink,
        metrics: SyncMetrics,
        settings: SyncControllerSettings,
        clock: Clock,
    ) -> None:
        self._view = view
        self._statuses = statuses
        self._events = event_sink
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._mistakes: dict[SyncKey, tuple[object, ...]] = {}

    async def synced(
        self,
        sync: SecretSync,
        result: MountResult,
        written: Written,
        *,
        answer: Answer,
        was_deleted: bool,
    ) -> bool:
        """Report a success.

        Args:
            sync: the SecretSync.
            result: of the provider.
            written: what became of the Secret.
            answer: what it answers.
            was_deleted: whether somebody deleted the Secret since the last sync.

        Returns:
            False if the status could not be written.
        """
        self._record_success(sync, result, written, was_deleted=was_deleted)
        outcome = ApplyOutcome.UNCHANGED if written.result is None else written.result.outcome
        missing = tuple(each.id for each in result.missing)
        status = synced_status(
            sync,
            Synced(_CHANGES[outcome], missing, answer.note),
            marks=answer.marks,
            digest=answer.digest,
            result=result,
            secret=written.secret,
            holder=self._settings.pod.name if result.is_leased else "",
            now=self._now(),
            legacy=self._settings.legacy_conditions,
        )
        now = self._clock.wall()
        self._metrics.synced(sync.ref.key, written.outcome, now, ages=answer.ages)
        return status is None or await self._write_status(sync, status)

    def _record_success(
        self,
        sync: SecretSync,
        result: MountResult,
        written: Written,
        *,
        was_deleted: bool,
    ) -> None:
        if written.result is not None:
            changes = [
                change
                for change in version_changes(_versions(sync), result.versions)
                if change.before or change.after != MISSING_VERSION  # has an event of its own
            ]
            event = events.secret_written(sync, written.result, changes, was_deleted=was_deleted)
            if event is not None:
                self._events.record(event)
                _log.info(
                    "Secret written",
                    secretSync=_name(sync),
                    outcome=written.result.outcome.value,
                )
        if result.missing and {each.id for each in result.missing} != _missing_ids(sync):
            self._events.record(events.optional_missing(sync, result.missing))
        now = self._clock.wall().timestamp()
        if warnings := near_expiry_warnings(result.expiries, now):
            self._events.record(events.near_expiry(sync, warnings))
        self._metrics.watch_expiries(sync.ref.key, partial(near_expiry_states, result.expiries))

    async def failed(self, sync: SecretSync, error: KeyferryError, *, is_stalled: bool) -> bool:
        """Report a failure, unless the status says the same already.

        Args:
            sync: the SecretSync.
            error: why.
            is_stalled: whether somebody has to change something.

        Returns:
            False if the status could not be written.
        """
        self._metrics.failed(sync.ref.key, error, self._right_until(sync))
        status = failed_status(
            sync,
            SyncFailed(error, stalled=is_stalled),
            now=self._now(),
            legacy=self._settings.legacy_conditions,
        )
        if status is None:
            return True
        _log.warning("SecretSync failed", secretSync=_name(sync), **error.log_pairs())
        if isinstance(error, SecretConflictError):
            for event in events.secret_claimed(sync, self._owner_class(sync, error), error):
                self._events.record(event)
        elif not isinstance(error, StoreUnavailableError):
            self._events.record(events.sync_failed(sync, error))
        return await self._write_status(sync, status)

    async def _write_status(self, sync: SecretSync, status: SyncStatus) -> bool:
        try:
            await self._statuses.write_status(sync, status)
        except KeyferryError as failure:
            _log.warning("status not written", secretSync=_name(sync), **failure.log_pairs())
            return False
        return True

    def _right_until(self, sync: SecretSync) -> datetime | None:
        """Return when the Secret was last right, as far as the status says; None for never."""
        if not sync.status.sync_hash:
            return None
        ready = sync.status.condition(READY)
        is_right = ready is not None and ready.status is ConditionStatus.TRUE
        return self._now() if ready is None or is_right else ready.transitioned_at

    def mistakes(self, sync: SecretSync) -> None:
        """Report fields and annotations without effect, once until they change."""
        found = (*sync.unknown_fields, *sync.options.problems)
        if found == self._mistakes.get(sync.ref.key, ()):
            return
        self._mistakes[sync.ref.key] = found
        if sync.unknown_fields:
            description = describe_unknown_fields(sync.unknown_fields)
            self._events.record(events.unknown_field(sync, description))
        if sync.options.problems:
            self._events.record(events.invalid_annotation(sync, sync.options.problems))

    def forget(self, key: SyncKey) -> None:
        """Forget a SecretSync that is not handled any more."""
        self._mistakes.pop(key, None)
        self._metrics.forget(key)

    def _owner_class(
        self, sync: SecretSync, error: SecretConflictError
    ) -> SecretProviderClass | None:
        if not error.owner_class:
            return None
        try:
            return self._view.class_(sync.ref.namespace, error.owner_class)
        except ClassInvalidError:
            return None

    def _now(self) -> datetime:
        return self._clock.wall().astimezone(UTC).replace(microsecond=0)


_CHANGES = {
    ApplyOutcome.UNCHANGED: SyncChange.UNCHANGED,
    ApplyOutcome.CREATED: SyncChange.CREATED,
    ApplyOutcome.ADOPTED: SyncChange.CREATED,
    ApplyOutcome.UPDATED: SyncChange.UPDATED,
    ApplyOutcome.REVERTED: SyncChange.UPDATED,
    ApplyOutcome.RECREATED: SyncChange.CREATED,
}


def _versions(sync: SecretSync) -> list[ObjectVersion]:
    return [ObjectVersion(each.id, each.version) for each in sync.status.objects]


def _missing_ids(sync: SecretSync) -> set[str]:
    return {each.id for each in sync.status.objects if each.version == MISSING_VERSION}


def _name(sync: SecretSync) -> ObjectName:
    return ObjectName(sync.ref.namespace, sync.ref.name)
