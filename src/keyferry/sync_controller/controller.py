"""Queues SecretSyncs for reconciliation: after changes in the cluster, and when they are due.

It only adds keys to a work queue; `reconciler` alone decides what is done for a key. New, changed
and edited objects go before refreshes and before what was there at the start.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, assert_never

from keyferry.aio.tasks import spawn
from keyferry.aio.work_queue import WorkQueue
from keyferry.errors import KeyferryError
from keyferry.kubernetes.syncs.changes import (
    ClassChanged,
    Reconnected,
    ServiceAccountChanged,
    SyncChanged,
    SyncSecretChanged,
)
from keyferry.sync_controller.rules.request import target_path_of, uid_of
from keyferry.sync_controller.rules.timetable import Timetable
from keyferry.telemetry.deduplicator import Deduplicator
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from keyferry.aio.clock import Clock
    from keyferry.kubernetes.syncs.changes import SyncEvent
    from keyferry.kubernetes.syncs.groups import SyncGroup
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncKey
    from keyferry.providers.expiry import ExpiringLease
    from keyferry.sync_controller.reconciler import SyncReconciler
    from keyferry.sync_controller.tokens import ServiceAccountTokens
    from keyferry.telemetry.sync_metrics import SyncMetrics

MIN_RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 900.0
"""The longest delay before a failed SecretSync is retried."""
CHECK_SECONDS = 1.0
"""How often due SecretSyncs are looked for."""
LEASE_CHECK_SECONDS = 1.0
"""How often leases that cannot be renewed are looked for: in the last third of their lifetime."""
LEASE_RETRY_SECONDS = 30.0
"""How often the replacement of a lease is requested, while the lease is valid."""
EXPIRED_RETRY_SECONDS = 300.0
"""The same once it has expired. Failures are also retried with backoff."""

_log = get_logger("sync")


class SyncSource(Protocol):
    """The cached SecretSyncs."""

    def syncs(self) -> Iterable[SecretSync]:
        """Return all SecretSyncs."""

    def sync(self, key: SyncKey) -> SecretSync | None:
        """Return a SecretSync, or None."""


class LeaseSource(Protocol):
    """Knows the dynamic secrets of SecretSyncs."""

    async def restore(self) -> frozenset[str]:
        """Restore leases of an earlier process; return the target paths that they belong to."""

    async def expiring_leases(self) -> tuple[tuple[str, ExpiringLease], ...]:
        """Return leases that can no longer be renewed, with the names of their providers."""

    def volume_removed(self, target_path: str, *, unpublished: bool) -> None:
        """Revoke the leases of a target path."""


def retry_backoff(failures: int) -> float:
    """Return the seconds to wait after this number of consecutive failures."""
    return min(MAX_RETRY_SECONDS, MIN_RETRY_SECONDS * 2.0 ** min(max(failures - 1, 0), 10))


class SyncController:
    """Feeds the work queue of SecretSyncs.

    Args:
        reconciler: reconciles one SecretSync.
        source: the cached SecretSyncs.
        leases: the dynamic secrets of SecretSyncs.
        tokens: of service accounts.
        metrics: exposes the length of the queue.
        groups: the API groups of the SecretSyncs.
        clock: delays.
    """

    def __init__(
        self,
        reconciler: SyncReconciler,
        *,
        source: SyncSource,
        leases: LeaseSource,
        tokens: ServiceAccountTokens,
        metrics: SyncMetrics,
        groups: Sequence[SyncGroup],
        clock: Clock,
    ) -> None:
        self._groups = groups
        self._reconciler = reconciler
        self._source = source
        self._leases = leases
        self._tokens = tokens
        self._clock = clock
        self._timetable: Timetable[SyncKey] = Timetable()
        self._lease_requests = Deduplicator(LEASE_RETRY_SECONDS)
        self._expired_requests = Deduplicator(EXPIRED_RETRY_SECONDS)
        self._queue: WorkQueue[SyncKey] = WorkQueue(
            self._reconcile,
            group_of=lambda key: key[1],
            clock=clock,
            name="SecretSyncs",
            backoff=retry_backoff,
        )
        metrics.watch_queue(lambda: len(self._queue))

    def __len__(self) -> int:
        """The number of SecretSyncs in the queue."""
        return len(self._queue)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reconcile SecretSyncs while the block runs. The caches must be in sync."""
        await self._end_leases_of_others()
        for sync in self._source.syncs():
            self._queue.add(sync.ref.key)
        async with self._queue.running():
            tasks = [
                spawn(self._run_timetable(), name="SecretSync timetable"),
                spawn(self._watch_leases(), name="SecretSync leases"),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _reconcile(self, key: SyncKey) -> bool:
        self._timetable.set(key, None)
        result = await self._reconciler.reconcile(key)
        self._timetable.set(key, result.next_at)
        return result.is_done

    def on_event(self, event: SyncEvent) -> None:
        """Queue the SecretSyncs that `event` affects."""
        match event:
            case SyncChanged(before=before, after=after):
                changed = after or before
                assert changed is not None
                self._queue.add(changed.ref.key, urgent=True)
                if before is not None and (after is None or after.ref.uid != before.ref.uid):
                    # Also if it was never reconciled: an earlier process may have left leases.
                    path = target_path_of(before.ref.uid)
                    self._leases.volume_removed(path, unpublished=True)
            case ClassChanged(namespace=namespace, name=name):
                self._add_all(
                    sync
                    for sync in self._source.syncs()
                    if sync.ref.namespace == namespace and sync.class_name == name
                )
            case SyncSecretChanged(namespace=namespace, name=name):
                version = "" if event.deleted else f"{event.uid}/{event.resource_version}"
                for group in self._groups:
                    key = (group, namespace, name)
                    if self._source.sync(key) and not self._reconciler.is_unchanged(key, version):
                        self._queue.add(key, urgent=True)
            case ServiceAccountChanged(namespace=namespace, name=name):
                self._tokens.forget(namespace, name)
                self._add_all(
                    sync
                    for sync in self._source.syncs()
                    if sync.ref.namespace == namespace and sync.service_account == name
                )
            case Reconnected():
                self._queue.retry_failed()
            case _:
                assert_never(event)

    def _add_all(self, syncs: Iterable[SecretSync]) -> None:
        for sync in list(syncs):
            self._queue.add(sync.ref.key, urgent=True)

    async def _run_timetable(self) -> None:
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            for key in self._timetable.take_due(self._clock.monotonic()):
                self._queue.add(key)

    # --- leases of dynamic secrets ---------------------------------------------------------------

    async def _end_leases_of_others(self) -> None:
        """Restore the leases of an earlier process; revoke those without a SecretSync."""
        restored = await self._leases.restore()
        uids = {sync.ref.uid for sync in self._source.syncs()}
        for target_path in restored:
            if uid_of(target_path) not in uids:
                self._leases.volume_removed(target_path, unpublished=True)

    async def _watch_leases(self) -> None:
        """Replace dynamic secrets that can no longer be renewed, if possible before they expire."""
        while True:
            await self._clock.sleep(LEASE_CHECK_SECONDS)
            try:
                expiring = await self._leases.expiring_leases()
            except KeyferryError as error:
                _log.warning("leases cannot be checked", **error.log_pairs())
                continue
            if not expiring:
                continue
            keys = {sync.ref.uid: sync.ref.key for sync in self._source.syncs()}
            for _, lease in expiring:
                key = keys.get(uid_of(lease.target_path))
                now, wall = self._clock.monotonic(), self._clock.wall().timestamp()
                has_expired = lease.expiry.expires_at <= wall
                requests = self._expired_requests if has_expired else self._lease_requests
                if key is not None and requests.should_notify(key, now):
                    self._reconciler.lose_lease(key)
                    self._queue.add(key, urgent=True)
