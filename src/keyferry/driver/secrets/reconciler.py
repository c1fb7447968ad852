"""Entry point: reconciles one Kubernetes Secret with the volumes that use it.

A Secret that cannot be synced does not affect other Secrets and never fails a mount: it becomes a
warning on the pod and a `SecretProblem` in the result of the publish.

Source: docs/reference/upstream-driver.md#secret-sync
Source: docs/reference/upstream-driver.md#owner-references
Source: docs/reference/upstream-driver.md#events
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.aio.clock import SystemClock
from keyferry.aio.work_queue import After
from keyferry.driver.secrets.owners import owners_of
from keyferry.driver.secrets.usage import Consumer, Usage, usage_of
from keyferry.driver.status.events import (
    secret_adopted,
    secret_conflict,
    secret_failed,
    secret_recreated,
    secret_reverted,
)
from keyferry.errors import (
    KeyferryError,
    SecretConflictError,
    SecretNotManagedError,
    StoreError,
    StorePermissionError,
    StoreUnavailableError,
)
from keyferry.kubernetes.objects import ApplyOutcome, ApplyResult, SecretClaim
from keyferry.kubernetes.secret_plan import last_values
from keyferry.records import replace
from keyferry.secrets.builder import (
    build_secret,
    check_single_entry,
    choose_files,
)
from keyferry.secrets.jobs import data_of
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.driver.secrets.garbage_collector import SecretGarbageCollector
    from keyferry.driver.volumes.operations import VolumeOperations
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.kubernetes import DesiredSecret, ObjectStore
    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.objects import Pod, SecretObject, SecretProviderClass
    from keyferry.plugins.providers import Providers
    from keyferry.secrets.builder import ChosenFiles
    from keyferry.telemetry.metrics import SecretMetrics

PERMISSION_SECONDS = 300.0
"""How often a Secret is retried that Keyferry has no permission for."""
DELETED_SECONDS = 1.0
"""How long a deleted Secret of pods with owners is not recreated; four times longer after each."""
MAX_DELETED_SECONDS = 60.0
DELETED_WITH_PODS_SECONDS = 10.0
"""The same if pods that used it terminate, too: their owner was probably deleted."""

_log = get_logger("sync")


class SecretProblem(Struct, frozen=True):
    """A Secret that could not be synced.

    Attributes:
        secret_name: the name in the SecretProviderClass; may be empty, which is then the problem.
        message: the message of the event: SecretProviderClass, Secret, cause and remedy.
        error: the cause.
    """

    secret_name: str
    message: str
    error: KeyferryError


class SecretReconciler:
    """Syncs the Secrets that the SecretProviderClasses of this node's volumes name.

    Args:
        store: writes Secrets and Kubernetes events.
        volumes: the published volumes of this node.
        operations: reads their files.
        providers: know the names by which a SecretProviderClass may refer to its files.
        garbage_collector: ends unused Secrets.
        metrics: counts syncs and failures.
        jobs: parses the files of Secrets whose type requires a format.
        clock: delays.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        volumes: VolumeTable,
        operations: VolumeOperations,
        providers: Providers,
        garbage_collector: SecretGarbageCollector,
        metrics: SecretMetrics,
        jobs: JobRunner,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._volumes = volumes
        self._operations = operations
        self._providers = providers
        self._garbage_collector = garbage_collector
        self._metrics = metrics
        self._jobs = jobs
        self._owner_classes: dict[NamespacedName, str] = {}
        self._problems: dict[NamespacedName, dict[str, SecretProblem]] = {}
        self._reported: dict[tuple[NamespacedName, str], str] = {}
        """By Secret and uid of the pod: the message of the last event."""
        self._versions: dict[NamespacedName, str] = {}
        self._warnings: dict[NamespacedName, str] = {}
        self._synced_pods: dict[NamespacedName, frozenset[str]] = {}
        """The uids of the pods for which the Secret was last written or found in sync."""
        self._deleted_at: dict[NamespacedName, float] = {}
        self._recreations: Counter[NamespacedName] = Counter()

    def synced_version(self, key: NamespacedName) -> str | None:
        """Return the resourceVersion at which the Secret was last in sync; None when it is not."""
        return self._versions.get(key)

    def problems(self, spc: SecretProviderClass) -> tuple[SecretProblem, ...]:
        """Return the problems with the Secrets of `spc`, in the order of `secretObjects`."""
        problems = (
            self._problems.get((spc.namespace, name), {}).get(spc.name)
            for name in dict.fromkeys(entry.name for entry in spc.secret_objects)
        )
        return tuple(problem for problem in problems if problem is not None)

    def warnings(self, spc: SecretProviderClass) -> tuple[str, ...]:
        """Return what the last reconciliations of the Secrets of `spc` replaced or left out."""
        keys = [(spc.namespace, name) for name in sorted(spc.secret_names)]
        return tuple(self._warnings[key] for key in keys if key in self._warnings)

    def unmanaged(self) -> frozenset[NamespacedName]:
        """Return the Secrets that exist, and that Keyferry may not write."""
        return frozenset(
            key
            for key, problems in self._problems.items()
            if any(isinstance(each.error, SecretNotManagedError) for each in problems.values())
        )

    def note_deleted(self, key: NamespacedName, resource_version: str) -> bool:
        """Note that the Secret was deleted, by a user or with its owners.

        Args:
            key: the Secret.
            resource_version: of its last state.

        Returns:
            Whether it must be reconciled.
        """
        if key in self._synced_pods:
            self._deleted_at[key] = self._clock.monotonic()
        return self._garbage_collector.note_deleted(
            key,
            self._owner_classes.get(key, ""),
            # Otherwise it may have been created again, and the watch has not reported that yet.
            is_absent=self.synced_version(key) in {None, resource_version},
        )

    def failing(self) -> set[NamespacedName]:
        """Return the Secrets that could not be synced."""
        return set(self._problems)

    async def reconcile(self, key: NamespacedName) -> bool | After:
        """Reconcile one Secret.

        1. Volumes use it: write it. If it was deleted just now, wait whether pods terminate, too.
        2. A pod whose SecretProviderClass cannot be read may use it: wait.
        3. No volume of this node uses it: end it, unless another node uses it.

        Returns:
            False when the Secret must be requeued with backoff, and `After` when it must be
            reconciled again later.
        """
        try:
            usage = await usage_of(key, self._volumes, self._store)
            if usage.consumers:
                if wait := self._deletion_wait(key, usage):
                    return After(wait)
                self._garbage_collector.in_use(key)
                return await self._ensure(key, usage)
            return await self._release(key, usage)
        except StoreUnavailableError as error:
            _log.warning(
                "Secret sync deferred: Kubernetes API unavailable",
                secret=ObjectName(*key),
                **error.log_pairs(),
            )
            return False
        except StoreError as error:
            _log.error(
                "failed to delete unused Secret",
                secret=ObjectName(*key),
                **error.log_pairs(),
            )
            return True

    async def _release(self, key: NamespacedName, usage: Usage) -> bool | After:
        if key in self._synced_pods:
            self._garbage_collector.note_released(key, self._owner_classes.get(key, ""))
        self._forget(key)
        if usage.unknown:
            return True
        if not self._volumes.restored:
            return False
        return await self._garbage_collector.release(key, terminating=usage.terminating)

    def _deletion_wait(self, key: NamespacedName, usage: Usage) -> float:
        """Return for how long a deleted Secret is not recreated.

        The garbage collector of Kubernetes deletes Secret and pods of a deleted Deployment in any
        order. A new pod proves that its owner exists.
        """
        deleted_at = self._deleted_at.get(key)
        known = self._synced_pods.get(key, frozenset())
        pods = {consumer.volume.pod.uid for consumer in usage.consumers}
        if (
            deleted_at is None
            or not any(consumer.pod and consumer.pod.owners for consumer in usage.consumers)
            or not pods <= known
        ):
            return 0.0
        wait = min(DELETED_SECONDS * 4.0 ** self._recreations[key], MAX_DELETED_SECONDS)
        if usage.terminating or pods < known:
            wait = max(wait, DELETED_WITH_PODS_SECONDS)
        return max(0.0, deleted_at + wait - self._clock.monotonic())

    async def _ensure(self, key: NamespacedName, usage: Usage) -> bool | After:
        """Write a Secret that volumes use; False or `After` when it must be requeued.

        If several SecretProviderClasses name it, it is written for one of them:

        1. The one that it belonged to at the last reconciliation, else the one published first.
        2. If the Secret in the cluster belongs to another one of them: that one.

        Every other SecretProviderClass gets a conflict error.
        """
        classes = {spc.name: spc for spc in usage.classes}
        last_owner = self._owner_classes.get(key, "")
        owner = classes.get(last_owner) or next(iter(classes.values()))
        error = await self._apply(key, owner, usage)
        if isinstance(error, SecretConflictError) and error.owner_class in classes:
            owner = classes[error.owner_class]
            error = await self._apply(key, owner, usage)
        self._owner_classes[key] = owner.name
        problems: dict[str, KeyferryError] = {} if error is None else {owner.name: error}
        owner_name = error.owner_class if isinstance(error, SecretConflictError) else owner.name
        for other in classes.values():
            if other is not owner:
                problems[other.name] = _conflict_error(key, owner_name)
        await self._report_problems(key, usage, problems)
        if isinstance(error, StorePermissionError):
            # The watch of Secrets reports when it is permitted again; every node may be affected.
            return After(PERMISSION_SECONDS)
        # A conflict ends with an event (an edit of a class, a deleted Secret), not with time.
        return not isinstance(error, StoreError) or isinstance(
            error, SecretConflictError | SecretNotManagedError
        )

    async def _apply(
        self, key: NamespacedName, spc: SecretProviderClass, usage: Usage
    ) -> KeyferryError | None:
        """Write the Secret that `spc` defines, from the newest volume; return the failure."""
        self._versions.pop(key, None)
        consumers = [consumer for consumer in usage.consumers if consumer.spc.name == spc.name]
        source = max(consumers, key=lambda consumer: consumer.volume.fetched_at)
        try:
            with self._metrics.timed_sync(spc.provider):
                secret = await self._desired(spc, source, consumers)
                if secret is None:
                    self._note_left_out(key, spc)
                    return None
                secret = replace(secret, claim=await self._claim(key, spc, source, usage))
                result = await self._store.apply_secret(secret)
        except KeyferryError as error:
            self._metrics.sync_failed(error)
            return error
        self._versions[key] = result.resource_version
        self._synced_pods[key] = frozenset(each.volume.pod.uid for each in usage.consumers)
        if self._deleted_at.pop(key, None) is not None:
            self._recreations[key] += 1
        await self._report_outcome(key, source, secret, result)
        return None

    def _note_left_out(self, key: NamespacedName, spc: SecretProviderClass) -> None:
        self._synced_pods.pop(key, None)
        warning = f"Secret {key[0]}/{key[1]} is left out: optional objects of it are missing"
        if self._warnings.get(key) != warning:
            self._warnings[key] = warning
            _log.info("Secret left out", secret=ObjectName(*key), spc=_object_name(spc))

    async def _desired(
        self, spc: SecretProviderClass, source: Consumer, consumers: Sequence[Consumer]
    ) -> DesiredSecret | None:
        """Return the Secret; None if it is left out, because optional objects are missing.

        An existing Secret that is left out is kept, with its pods as owners, or deleted.
        """
        check_single_entry(spc.secret_objects, source.entry.name)
        files = await self._operations.read(Path(source.volume.target_path))
        named = await self._providers.named_files(spc.provider, spc.parameters)
        pods = [(await self._find_pod(consumer), consumer.volume.owner) for consumer in consumers]
        owners, removed_owner_uids = owners_of(pods)
        chosen = choose_files(source.entry, files, named, source.volume.missing)
        if (request := chosen.request) is None and not chosen.kept_keys:
            key = spc.namespace, source.entry.name
            await self._garbage_collector.remove(key, spc, source.volume.fetched_at)
            return None
        content = await self._last_content(spc, source.entry, chosen)
        if content is None and request is not None:
            content = source.entry, await data_of(request, self._jobs, tenant=spc.namespace)
        if content is None:
            return None
        entry, data = content
        secret = build_secret(spc.namespace, entry, data, owners)
        return replace(
            secret,
            removed_owner_uids=removed_owner_uids,
            kept_keys=chosen.kept_keys,
            optional_keys=chosen.optional_keys,
        )

    async def _last_content(
        self, spc: SecretProviderClass, entry: SecretObject, chosen: ChosenFiles
    ) -> tuple[SecretObject, Mapping[str, bytes]] | None:
        """Return `entry` with the type of the existing Secret, and the values that it keeps.

        None if it keeps none, or lacks some of those that belong together.
        """
        keys = chosen.kept_keys if chosen.request is None else chosen.last_keys
        live = await self._store.find_secret(spc.namespace, entry.name) if keys else None
        data = {} if live is None else last_values(live, spc.name, keys)
        if live is None or not data or chosen.last_keys - data.keys():
            return None
        return replace(entry, type=live.type or entry.type), data

    async def _find_pod(self, consumer: Consumer) -> Pod | None:
        """Return the pod of a consumer, from the Kubernetes API if it is not cached yet."""
        if consumer.pod is not None:
            return consumer.pod
        ref = consumer.volume.pod
        try:
            pod = await self._store.cluster.find_pod(ref.namespace, ref.name)
        except StoreError:
            return None
        return pod if pod is not None and pod.uid == ref.uid else None

    async def _claim(
        self, key: NamespacedName, spc: SecretProviderClass, source: Consumer, usage: Usage
    ) -> SecretClaim:
        namespace, name = key
        known = (*await self._store.cluster.list_classes(namespace), *usage.classes)
        return SecretClaim(
            class_name=spc.name,
            class_version=spc.version,
            fetched_at=source.volume.fetched_at,
            contenders=frozenset(other.name for other in known if name in other.secret_names)
            - {spc.name},
            adopt=name in spc.adopted_secrets,
        )

    # --- reports ---------------------------------------------------------------------------------

    async def _report_outcome(
        self, key: NamespacedName, source: Consumer, secret: DesiredSecret, result: ApplyResult
    ) -> None:
        pod, spc = source.volume.pod, source.spc
        self._warnings.pop(key, None)
        if result.replaced_keys or result.outcome is ApplyOutcome.ADOPTED:
            event = secret_adopted(spc, secret.name, result.replaced_keys)
            await self._store.record_event(event)
            if result.replaced_keys:
                self._warnings[key] = event.message
        match result.outcome:
            case ApplyOutcome.UNCHANGED:
                return
            case ApplyOutcome.RECREATED:
                event = secret_recreated(pod, spc, secret, result.previous_type)
                await self._store.record_event(event)
            case ApplyOutcome.REVERTED:
                self._metrics.drift_reverted()
                await self._store.record_event(secret_reverted(pod, spc, secret.name))
            case ApplyOutcome.CREATED | ApplyOutcome.ADOPTED | ApplyOutcome.UPDATED:
                pass
            case _:
                assert_never(result.outcome)
        _log.info("Secret " + result.outcome.value, secret=ObjectName(*key), spc=_object_name(spc))

    async def _report_problems(
        self, key: NamespacedName, usage: Usage, errors: dict[str, KeyferryError]
    ) -> None:
        """Remember the problems of a Secret, and report each to each affected pod once.

        Args:
            key: the Secret.
            usage: its consumers.
            errors: the failures by name of the SecretProviderClass.
        """
        self._problems.pop(key, None)
        affected = {
            consumer.volume.pod.uid for consumer in usage.consumers if consumer.spc.name in errors
        }
        self._reported = {
            (secret, uid): message
            for (secret, uid), message in self._reported.items()
            if secret != key or uid in affected
        }
        for consumer in usage.consumers:
            volume, spc = consumer.volume, consumer.spc
            error = errors.get(spc.name)
            if error is None:
                continue
            event = secret_failed(volume.pod, spc, key[1], error)
            problem = SecretProblem(key[1], event.message, error)
            self._problems.setdefault(key, {})[spc.name] = problem
            if self._reported.get((key, volume.pod.uid)) == event.message:
                continue
            self._reported[key, volume.pod.uid] = event.message
            _log.error(
                "failed to sync Secret with its volume",
                secret=ObjectName(*key),
                spc=_object_name(spc),
                pod=ObjectName(volume.pod.namespace, volume.pod.name),
                targetPath=volume.target_path,
                **error.log_pairs(),
            )
            if not isinstance(error, StoreUnavailableError):
                await self._store.record_event(event)
            if isinstance(error, SecretConflictError):
                await self._report_conflict(key, spc, error.owner_class, usage.classes)

    async def _report_conflict(
        self,
        key: NamespacedName,
        other_spc: SecretProviderClass,
        owner_class: str,
        classes: Iterable[SecretProviderClass],
    ) -> None:
        known = (*await self._store.cluster.list_classes(key[0]), *classes)
        for spc in known:
            if spc.name == owner_class:
                for event in secret_conflict(key[1], spc, other_spc):
                    await self._store.record_event(event)
                return

    def _forget(self, key: NamespacedName) -> None:
        self._versions.pop(key, None)
        self._synced_pods.pop(key, None)
        self._deleted_at.pop(key, None)
        self._recreations.pop(key, None)
        self._owner_classes.pop(key, None)
        self._problems.pop(key, None)
        self._reported = {
            (secret, uid): message
            for (secret, uid), message in self._reported.items()
            if secret != key
        }


def _conflict_error(key: NamespacedName, owner_class: str) -> SecretConflictError:
    return SecretConflictError(
        f"Secret {key[0]}/{key[1]} belongs to SecretProviderClass {key[0]}/{owner_class},"
        " which also names it",
        "Choose another secretName in one of the two SecretProviderClasses.",
        owner_class=owner_class,
    )


def _object_name(spc: SecretProviderClass) -> ObjectName:
    return ObjectName(spc.namespace, spc.name)
