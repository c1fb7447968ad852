"""Entry point: reconciles one SecretSync.

1. Decide from the SecretSync, its SecretProviderClass, the Secret in the cluster and the last sync.
2. Fetch the content, build the Secret, write it.
3. Report: status, event, metrics. Nothing is written that has not changed.

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

from keyferry.content import MISSING_VERSION, ObjectVersion
from keyferry.errors import (
    AuthorError,
    ClassInvalidError,
    KeyferryError,
    SecretConflictError,
    SecretNotManagedError,
    StoreUnavailableError,
)
from keyferry.formats.unknown_fields import describe_unknown_fields
from keyferry.kubernetes.markings import SYNC_MARKING
from keyferry.kubernetes.objects import (
    ApplyOutcome,
    ApplyResult,
    SecretProviderClass,
    SyncClaim,
)
from keyferry.kubernetes.pod_status import version_changes
from keyferry.kubernetes.syncs.outcomes import SyncChange, Synced, SyncFailed
from keyferry.providers.expiry import near_expiry_warnings
from keyferry.secrets.builder import build_secret, choose_files
from keyferry.secrets.jobs import data_of
from keyferry.sync_controller import events
from keyferry.sync_controller.decision import (
    Facts,
    Ignore,
    LastSync,
    Marks,
    Refuse,
    Sync,
    Trigger,
    UpToDate,
    decide,
    last_sync_of,
)
from keyferry.sync_controller.refusals import NamespaceNotListedError
from keyferry.sync_controller.request import target_path_of
from keyferry.sync_controller.schedule import interval_of, next_refresh
from keyferry.sync_controller.status import failed_status, sync_hash, synced_status
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.kubernetes.syncs.objects import (
        SecretSync,
        SyncKey,
    )
    from keyferry.sync_controller.content import FetchedContent, SyncContent
    from keyferry.sync_controller.interfaces import (
        EventSink,
        ProviderReleases,
        SecretWriter,
        StatusWriter,
        SyncView,
    )
    from keyferry.sync_controller.settings import SyncControllerSettings
    from keyferry.telemetry.sync_metrics import SyncMetrics

_log = get_logger("sync")


@dataclass(frozen=True, slots=True)
class Result:
    """What comes after an attempt.

    Attributes:
        is_done: False to try again with backoff.
        next_at: when the SecretSync is due again, in monotonic seconds; None for never.
    """

    is_done: bool
    next_at: float | None = None


@dataclass(slots=True)
class _Record:
    """What this process knows of a SecretSync.

    Attributes:
        last: the last successful sync.
        lost_lease: whether a dynamic secret has to be replaced.
        seen_at: when it was first seen unsynced, in monotonic seconds.
        has_fetched: whether the providers may hold something for it.
    """

    uid: str
    last: LastSync | None
    lost_lease: bool = False
    seen_at: float = 0.0
    has_fetched: bool = False


@dataclass(frozen=True, slots=True)
class _Written:
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


class SyncReconciler:
    """Keeps the Secrets of SecretSyncs right.

    Args:
        view: the cached objects of the cluster.
        content: fetches what a SecretProviderClass names.
        secrets: writes Secrets.
        statuses: writes statuses.
        event_sink: records events.
        providers: hold content and dynamic secrets of SecretSyncs.
        jobs: parses the files of Secrets whose type requires a format.
        metrics: counts.
        settings: of the controller.
        clock: the time.
    """

    def __init__(
        self,
        *,
        view: SyncView,
        content: SyncContent,
        secrets: SecretWriter,
        statuses: StatusWriter,
        event_sink: EventSink,
        providers: ProviderReleases,
        jobs: JobRunner,
        metrics: SyncMetrics,
        settings: SyncControllerSettings,
        clock: Clock,
    ) -> None:
        self._view = view
        self._content = content
        self._secrets = secrets
        self._statuses = statuses
        self._events = event_sink
        self._providers = providers
        self._jobs = jobs
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._records: dict[SyncKey, _Record] = {}

    def is_unchanged(self, key: SyncKey, secret: str) -> bool:
        """Return whether the Secret is as the last sync left it.

        Args:
            key: the SecretSync.
            secret: `uid/resourceVersion` of the Secret; "" if it was deleted.
        """
        record = self._records.get(key)
        return record is not None and record.last is not None and record.last.secret == secret

    def lose_lease(self, key: SyncKey) -> None:
        """Note that a dynamic secret of a SecretSync has to be replaced."""
        if record := self._records.get(key):
            record.lost_lease = True

    async def reconcile(self, key: SyncKey) -> Result:
        """Reconcile one SecretSync.

        Returns:
            When to come back.
        """
        sync = self._view.sync(key)
        record = self._records.get(key)
        if record is not None and (sync is None or sync.ref.uid != record.uid):
            self._forget(key, record)
        if sync is None:
            return Result(is_done=True)
        record = self._record(sync)
        facts = self._facts(sync, record)
        decision = decide(facts, self._settings.scope)
        match decision:
            case Ignore():
                self._forget(key, record)
                return Result(is_done=True)
            case Refuse(error):
                return await self._fail(sync, record, error, is_retried=False)
            case UpToDate(next_at):
                self._metrics.known(key, sync.status.last_success)
                return Result(is_done=True, next_at=next_at)
            case Sync(spc, trigger):
                try:
                    return await self._sync(sync, spc, trigger, record, facts)
                except KeyferryError as error:
                    return await self._fail(sync, record, error, is_retried=_is_retried(error))
            case _:
                assert_never(decision)

    def _record(self, sync: SecretSync) -> _Record:
        record = self._records.get(sync.ref.key)
        if record is None:
            now = self._clock.monotonic()
            spc = self._class(sync.ref.namespace, sync.class_name)
            next_at = None
            if isinstance(spc, SecretProviderClass):
                # Not all at once: the identities are known after the first fetch.
                interval = interval_of(sync, spc, self._settings.interval)
                next_at = next_refresh((), sync.ref.uid, interval=interval, now=now)
            record = _Record(sync.ref.uid, last_sync_of(sync, next_at=next_at), seen_at=now)
            self._records[sync.ref.key] = record
            self._report_mistakes(sync)
        return record

    def _facts(self, sync: SecretSync, record: _Record) -> Facts:
        ref = sync.ref
        holder = sync.status.lease_holder
        return Facts(
            sync=sync,
            spc=self._class(ref.namespace, sync.class_name),
            secret=self._secret_version(ref.namespace, ref.name),
            opt_in=self._view.service_account(ref.namespace, sync.service_account),
            requires_opt_in=self._settings.tokens.requires_opt_in,
            last=record.last,
            lost_lease=record.lost_lease or holder not in ("", self._settings.pod.name),
            now=self._clock.monotonic(),
        )

    def _class(self, namespace: str, name: str) -> SecretProviderClass | ClassInvalidError | None:
        try:
            return self._view.class_(namespace, name)
        except ClassInvalidError as error:
            return error

    def _secret_version(self, namespace: str, name: str) -> str | None:
        if not self._view.watches_secrets(namespace):
            return None
        return self._view.secret_version(namespace, name) or ""

    # --- success ---------------------------------------------------------------------------------

    async def _sync(
        self,
        sync: SecretSync,
        spc: SecretProviderClass,
        trigger: Trigger,
        record: _Record,
        facts: Facts,
    ) -> Result:
        marks = Marks.of(sync, spc)
        interval = interval_of(sync, spc, self._settings.interval)
        record.has_fetched = True
        fetched = await self._content.fetch(
            sync,
            spc,
            interval=interval,
            not_before=facts.now if trigger is Trigger.REQUESTED else None,
        )
        versions = fetched.result.versions
        digest = sync_hash(sync.ref.uid, marks, versions)
        is_same = digest == sync.status.sync_hash
        last = record.last
        if is_same and last is not None and facts.secret in (None, last.secret):
            written = _Written(ApplyResult(ApplyOutcome.UNCHANGED), last.secret)
        else:
            written = await self._write(sync, fetched, is_unchanged=is_same and last is not None)
        now = self._clock.monotonic()
        next_at = next_refresh(
            fetched.result.refresh_slots, sync.ref.uid, interval=interval, now=now
        )
        # Stale until the status says so, too: another process decides from it.
        record.last = LastSync(marks, written.secret, is_stale=True, next_at=next_at)
        record.lost_lease = False
        was_deleted = last is not None and bool(last.secret) and facts.secret == ""
        self._report_success(sync, fetched, written, was_deleted=was_deleted)
        await self._write_synced_status(sync, marks, digest, fetched, written)
        record.last = replace(record.last, is_stale=False)
        self._metrics.synced(sync.ref.key, written.outcome, self._clock.wall())
        if last is None:
            self._metrics.first_synced(now - record.seen_at)
        _log.debug("SecretSync synced", secretSync=_name(sync), trigger=trigger.value)
        return Result(is_done=True, next_at=next_at)

    async def _write(
        self, sync: SecretSync, fetched: FetchedContent, *, is_unchanged: bool
    ) -> _Written:
        """Write the Secret; delete it if objects are missing that its type requires."""
        namespace = sync.ref.namespace
        chosen = choose_files(
            sync.secret_object,
            fetched.files,
            fetched.named_files,
            fetched.result.missing,
            splits_certificates=True,
        )
        if chosen.request is None:
            return await self._leave_out(sync, keeps=bool(chosen.kept_keys))
        data = await data_of(chosen.request, self._jobs, tenant=namespace)
        secret = build_secret(namespace, sync.secret_object, data, (sync.owner,))
        claim = SyncClaim(
            sync.owner,
            is_unchanged=is_unchanged,
            adopt=sync.options.adopts,
            ignores_drift=sync.options.ignores_drift,
            class_name=self._class_of_secret(sync),
        )
        secret = replace(
            secret, claim=claim, kept_keys=chosen.kept_keys, optional_keys=chosen.optional_keys
        )
        result = await self._secrets.apply_secret(secret)
        return _Written(result, f"{result.uid}/{result.resource_version}")

    async def _leave_out(self, sync: SecretSync, *, keeps: bool) -> _Written:
        ref = sync.ref
        live = await self._secrets.find_secret(ref.namespace, ref.name, marking=SYNC_MARKING)
        is_own = live is not None and any(owner.uid == ref.uid for owner in live.owners)
        if live is None or not is_own:
            return _Written(None, "")
        if keeps:
            return _Written(None, f"{live.uid}/{live.resource_version}")
        await self._secrets.delete_secret(ref.namespace, ref.name, live)
        return _Written(None, "")

    def _class_of_secret(self, sync: SecretSync) -> str:
        """Return a SecretProviderClass whose `secretObjects` name the Secret; "" for none."""
        classes = self._view.classes(sync.ref.namespace)
        return next((spc.name for spc in classes if sync.ref.name in spc.secret_names), "")

    def _report_success(
        self,
        sync: SecretSync,
        fetched: FetchedContent,
        written: _Written,
        *,
        was_deleted: bool,
    ) -> None:
        if written.result is not None:
            changes = version_changes(_versions(sync), fetched.result.versions)
            event = events.secret_written(sync, written.result, changes, was_deleted=was_deleted)
            if event is not None:
                self._events.record(event)
                _log.info(
                    "Secret written",
                    secretSync=_name(sync),
                    outcome=written.result.outcome.value,
                )
        missing = fetched.result.missing
        if missing and {each.id for each in missing} != _missing_ids(sync):
            self._events.record(events.optional_missing(sync, missing))
        now = self._clock.wall().timestamp()
        if warnings := near_expiry_warnings(fetched.result.expiries, now):
            self._events.record(events.near_expiry(sync, warnings))

    async def _write_synced_status(
        self,
        sync: SecretSync,
        marks: Marks,
        digest: str,
        fetched: FetchedContent,
        written: _Written,
    ) -> None:
        outcome = ApplyOutcome.UNCHANGED if written.result is None else written.result.outcome
        change = _CHANGES[outcome]
        missing = tuple(each.id for each in fetched.result.missing)
        status = synced_status(
            sync,
            Synced(change, missing),
            marks=marks,
            digest=digest,
            result=fetched.result,
            secret=written.secret,
            holder=self._settings.pod.name if fetched.result.is_leased else "",
            now=self._now(),
            legacy=self._settings.legacy_conditions,
        )
        if status is not None:
            await self._statuses.write_status(sync, status)

    # --- failure ---------------------------------------------------------------------------------

    async def _fail(
        self, sync: SecretSync, record: _Record, error: KeyferryError, *, is_retried: bool
    ) -> Result:
        """Report a failure; the Secret keeps its content."""
        if record.last is not None:
            record.last = replace(record.last, is_stale=True)
        self._metrics.failed(sync.ref.key, error)
        status = failed_status(
            sync,
            SyncFailed(error, stalled=not is_retried),
            now=self._now(),
            legacy=self._settings.legacy_conditions,
        )
        if status is None:
            return Result(is_done=not is_retried)
        _log.warning("SecretSync failed", secretSync=_name(sync), **error.log_pairs())
        if isinstance(error, SecretConflictError):
            spc = self._class(sync.ref.namespace, error.owner_class)
            known = spc if isinstance(spc, SecretProviderClass) else None
            for event in events.secret_claimed(sync, known, error):
                self._events.record(event)
        elif not isinstance(error, StoreUnavailableError):
            self._events.record(events.sync_failed(sync, error))
        try:
            await self._statuses.write_status(sync, status)
        except KeyferryError as failure:
            _log.warning("status not written", secretSync=_name(sync), **failure.log_pairs())
            return Result(is_done=False)
        return Result(is_done=not is_retried)

    def _report_mistakes(self, sync: SecretSync) -> None:
        if sync.unknown_fields:
            description = describe_unknown_fields(sync.unknown_fields)
            self._events.record(events.unknown_field(sync, description))
        if sync.options.problems:
            self._events.record(events.invalid_annotation(sync, sync.options.problems))

    def _forget(self, key: SyncKey, record: _Record) -> None:
        self._records.pop(key, None)
        self._metrics.forget(key)
        if record.has_fetched:
            self._providers.volume_removed(target_path_of(record.uid), unpublished=True)

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


def _is_retried(error: KeyferryError) -> bool:
    """Return whether a failure may end without a change of an object that is watched."""
    return not isinstance(
        error,
        AuthorError | SecretConflictError | SecretNotManagedError | NamespaceNotListedError,
    )


def _versions(sync: SecretSync) -> list[ObjectVersion]:
    return [ObjectVersion(each.id, each.version) for each in sync.status.objects]


def _missing_ids(sync: SecretSync) -> set[str]:
    return {each.id for each in sync.status.objects if each.version == MISSING_VERSION}


def _name(sync: SecretSync) -> ObjectName:
    return ObjectName(sync.ref.namespace, sync.ref.name)
