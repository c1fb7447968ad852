"""Entry point: reconciles one SecretSync.

1. Decide from the SecretSync, its SecretProviderClass, the Secret in the cluster and the last sync.
2. Fetch the content, build the Secret, write it.
3. Report: status, event, metrics. Nothing is written that has not changed.

Source: https://github.com/kubernetes-sigs/secrets-store-sync-controller
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.errors import (
    ClassInvalidError,
    KeyferryError,
)
from keyferry.kubernetes.markings import SYNC_MARKING
from keyferry.kubernetes.objects import (
    ApplyOutcome,
    ApplyResult,
    SecretProviderClass,
    SyncClaim,
)
from keyferry.providers.registry import uses_machine_identity
from keyferry.records import replace
from keyferry.secrets.builder import Definition, build_secret, choose_files
from keyferry.secrets.jobs import data_of
from keyferry.sync_controller.reporter import Answer, Written
from keyferry.sync_controller.rules.decision import (
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
from keyferry.sync_controller.rules.request import target_path_of
from keyferry.sync_controller.rules.request_times import RequestTimes
from keyferry.sync_controller.rules.retries import After, after_failure, cluster_backoff
from keyferry.sync_controller.rules.schedule import interval_of, next_refresh
from keyferry.sync_controller.rules.status import content_digest, sync_hash
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncKey
    from keyferry.sync_controller.content import FetchedContent, SyncContent
    from keyferry.sync_controller.interfaces import (
        ProviderReleases,
        SecretWriter,
        SyncView,
    )
    from keyferry.sync_controller.reporter import SyncReporter
    from keyferry.sync_controller.settings import SyncControllerSettings
    from keyferry.telemetry.sync_metrics import SyncMetrics

_VERIFYING = {Trigger.REQUESTED, Trigger.CHANGED}
"""After these, the Secret is compared also if it should be right."""

_log = get_logger("sync")


class Result(Struct, frozen=True):
    """What comes after an attempt.

    Attributes:
        is_done: False to try again with backoff.
        next_at: when the SecretSync is due again, in monotonic seconds; None for never.
    """

    is_done: bool
    next_at: float | None = None


class _Record(Struct):
    """What this process knows of a SecretSync.

    Attributes:
        last: the last successful sync.
        lost_lease: whether a dynamic secret has to be replaced.
        seen_at: when it was first seen unsynced, in monotonic seconds.
        failures: how many attempts failed in a row because of the cluster.
        content: digest of the last content of an external provider; None if it is not known.
    """

    uid: str
    last: LastSync | None
    lost_lease: bool = False
    seen_at: float = 0.0
    failures: int = 0
    content: bytes | None = None


class SyncReconciler:
    """Keeps the Secrets of SecretSyncs right.

    Args:
        view: the cached objects of the cluster.
        content: fetches what a SecretProviderClass names.
        secrets: writes Secrets.
        reporter: writes statuses, events and metrics.
        providers: hold content and dynamic secrets of SecretSyncs.
        jobs: parses the files of Secrets whose type requires a format.
        metrics: knows which SecretSyncs are right.
        settings: of the controller.
        clock: the time.
    """

    def __init__(
        self,
        *,
        view: SyncView,
        content: SyncContent,
        secrets: SecretWriter,
        reporter: SyncReporter,
        providers: ProviderReleases,
        jobs: JobRunner,
        metrics: SyncMetrics,
        settings: SyncControllerSettings,
        clock: Clock,
    ) -> None:
        self._view = view
        self._content = content
        self._secrets = secrets
        self._reporter = reporter
        self._providers = providers
        self._jobs = jobs
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._records: dict[SyncKey, _Record] = {}
        self._requests = RequestTimes(clock.monotonic())
        self._key = os.urandom(32)

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
        if not isinstance(decision, Ignore):
            self._reporter.mistakes(sync)
        match decision:
            case Ignore():
                self._forget(key, record)
                return Result(is_done=True)
            case Refuse(error):
                return await self._fail(sync, record, error, After.CHANGE)
            case UpToDate(next_at):
                ages = self._ages(sync, facts.spc)
                self._metrics.known(key, self._clock.wall(), ages=ages)
                return Result(is_done=True, next_at=next_at)
            case Sync(spc, trigger):
                try:
                    return await self._sync(sync, spc, trigger, record, facts)
                except KeyferryError as error:
                    return await self._fail(sync, record, error, after_failure(error), spc)
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
        return record

    def _facts(self, sync: SecretSync, record: _Record) -> Facts:
        ref, now = sync.ref, self._clock.monotonic()
        holder = sync.status.lease_holder
        spc = self._class(ref.namespace, sync.class_name)
        requested_at = now
        if isinstance(spc, SecretProviderClass):
            requested_at = self._requests.see(sync, spc, now)
        return Facts(
            sync=sync,
            spc=spc,
            secret=self._secret_version(ref.namespace, ref.name),
            opt_in=self._view.service_account(ref.namespace, sync.service_account),
            requires_opt_in=self._settings.tokens.requires_opt_in,
            last=record.last,
            lost_lease=record.lost_lease or holder not in ("", self._settings.pod.name),
            now=now,
            requested_at=requested_at,
        )

    def _ages(self, sync: SecretSync, spc: SecretProviderClass | ClassInvalidError | None) -> bool:
        """Return whether a SecretSync is refreshed in the interval of the controller."""
        default = self._settings.interval
        if default is None or not isinstance(spc, SecretProviderClass):
            return False
        return interval_of(sync, spc, default) == default

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
        fetched = await self._content.fetch(
            sync, spc, interval=interval, not_before=facts.requested_at
        )
        versions = fetched.result.versions
        digest = sync_hash(sync.ref.uid, marks, versions)
        content = content_digest(self._key, fetched.files) if fetched.is_external else None
        is_same = digest == sync.status.sync_hash and record.content in (None, content)
        last = record.last
        is_known = record.content == content and trigger not in _VERIFYING
        if is_same and is_known and last is not None and facts.secret in (None, last.secret):
            written = Written(ApplyResult(ApplyOutcome.UNCHANGED), last.secret)
        else:
            written = await self._write(
                sync,
                fetched,
                is_unchanged=is_same and last is not None,
                seems_absent=facts.secret == "",
            )
        now = self._clock.monotonic()
        next_at = next_refresh(
            fetched.result.refresh_slots, sync.ref.uid, interval=interval, now=now
        )
        # Stale until the status says so, too: another process decides from it.
        record.last = LastSync(marks, sync.options, written.secret, is_stale=True, next_at=next_at)
        record.lost_lease, record.content = False, content
        was_deleted = last is not None and bool(last.secret) and facts.secret == ""
        is_reported = await self._reporter.synced(
            sync,
            fetched.result,
            written,
            answer=Answer(
                marks,
                digest,
                _machine_identity_note(spc),
                ages=self._ages(sync, spc),
            ),
            was_deleted=was_deleted,
        )
        if not is_reported:
            return Result(is_done=False)
        record.last = replace(record.last, is_stale=False)
        record.failures = 0
        if last is None:
            self._metrics.first_synced(now - record.seen_at)
        _log.debug(
            "SecretSync synced",
            secretSync=ObjectName(sync.ref.namespace, sync.ref.name),
            trigger=trigger.value,
        )
        return Result(is_done=True, next_at=next_at)

    async def _write(
        self,
        sync: SecretSync,
        fetched: FetchedContent,
        *,
        is_unchanged: bool,
        seems_absent: bool,
    ) -> Written:
        """Write the Secret; delete it if objects are missing that its type requires.

        Args:
            sync: the SecretSync.
            fetched: the content.
            is_unchanged: see `SyncClaim`.
            seems_absent: whether the cache has no such Secret.
        """
        namespace = sync.ref.namespace
        chosen = choose_files(
            sync.secret_object,
            fetched.files,
            fetched.named_files,
            fetched.result.missing,
            definition=Definition.SECRET_SYNC,
        )
        if chosen.request is None:
            return await self._leave_out(sync, keeps=bool(chosen.kept_keys))
        data = await data_of(chosen.request, self._jobs, tenant=namespace)
        secret = build_secret(
            namespace,
            sync.secret_object,
            data,
            (sync.owner,),
            definition=Definition.SECRET_SYNC,
        )
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
        result = await self._secrets.apply_secret(secret, seems_absent=seems_absent)
        return Written(result, f"{result.uid}/{result.resource_version}")

    async def _leave_out(self, sync: SecretSync, *, keeps: bool) -> Written:
        ref = sync.ref
        live = await self._secrets.find_secret(ref.namespace, ref.name, marking=SYNC_MARKING)
        is_own = live is not None and any(owner.uid == ref.uid for owner in live.owners)
        if live is None or not is_own:
            return Written(None, "")
        if keeps:
            return Written(None, f"{live.uid}/{live.resource_version}")
        await self._secrets.delete_secret(ref.namespace, ref.name, live)
        return Written(None, "")

    def _class_of_secret(self, sync: SecretSync) -> str:
        """Return a SecretProviderClass whose `secretObjects` name the Secret; "" for none."""
        classes = self._view.classes(sync.ref.namespace)
        return next((spc.name for spc in classes if sync.ref.name in spc.secret_names), "")

    # --- failure ---------------------------------------------------------------------------------

    async def _fail(
        self,
        sync: SecretSync,
        record: _Record,
        error: KeyferryError,
        after: After,
        spc: SecretProviderClass | None = None,
    ) -> Result:
        """Report a failure; the Secret keeps its content.

        Args:
            sync: the SecretSync.
            record: what is known of it.
            error: why.
            after: what the next attempt waits for.
            spc: its SecretProviderClass, if that is valid.
        """
        result = self._after_failure(sync, record, after, spc)
        if record.last is not None:
            record.last = replace(record.last, is_stale=True)
        is_stalled = after in (After.CHANGE, After.INTERVAL)
        is_reported = await self._reporter.failed(sync, error, is_stalled=is_stalled)
        return result if is_reported else Result(is_done=False)

    def _after_failure(
        self,
        sync: SecretSync,
        record: _Record,
        after: After,
        spc: SecretProviderClass | None,
    ) -> Result:
        now = self._clock.monotonic()
        match after:
            case After.CHANGE:
                return Result(is_done=True)
            case After.INTERVAL:
                default = self._settings.interval
                interval = default if spc is None else interval_of(sync, spc, default)
                next_at = next_refresh((), sync.ref.uid, interval=interval, now=now)
                return Result(is_done=True, next_at=next_at)
            case After.CLUSTER:
                record.failures += 1
                return Result(is_done=True, next_at=now + cluster_backoff(record.failures))
            case After.BACKOFF:
                return Result(is_done=False)
            case _:
                assert_never(after)

    def _forget(self, key: SyncKey, record: _Record) -> None:
        self._records.pop(key, None)
        self._requests.forget(record.uid)
        self._reporter.forget(key)
        # An earlier process may have left dynamic secrets.
        self._providers.volume_removed(target_path_of(record.uid), unpublished=True)


def _machine_identity_note(spc: SecretProviderClass) -> str:
    """Return the note on the identity of the machine; "" for other identities."""
    if not uses_machine_identity(spc):
        return ""
    return "It was read with the managed identity of the node on which the controller runs."
