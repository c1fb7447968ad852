"""The hub of one Secret: who uses it, what it is to be, and how it comes to be that.

A Secret that cannot be made keeps no other from being made, and never fails a mount: it becomes a
warning on the pod, and a value for whoever asked.

Source: docs/reference/upstream-driver.md#secret-sync
Source: docs/reference/upstream-driver.md#owner-references
Source: docs/reference/upstream-driver.md#events
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from keyferry.aio.threads import run_in_thread_uncancelled
from keyferry.driver.secrets.builder import build_secret, owners_of
from keyferry.driver.secrets.usage import Consumer, Usage, usage_of
from keyferry.driver.status.events import (
    secret_conflict,
    secret_failed,
    secret_recreated,
    secret_reverted,
)
from keyferry.driver.volumes.atomic_writer import read_volume
from keyferry.errors import (
    KeyferryError,
    SecretConflictError,
    SecretNotManagedError,
    StoreError,
    StoreUnavailableError,
)
from keyferry.kubernetes.objects import ApplyOutcome, ApplyResult, SecretClaim
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyferry.driver.providers import Providers
    from keyferry.driver.secrets.garbage_collector import SecretGarbageCollector
    from keyferry.driver.volumes.volume_table import VolumeTable
    from keyferry.kubernetes import DesiredSecret, ObjectStore
    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.objects import Pod, SecretProviderClass
    from keyferry.telemetry.metrics import SecretMetrics

_log = get_logger("sync")


@dataclass(frozen=True, slots=True)
class SecretProblem:
    """One Secret that could not be made or kept.

    Attributes:
        secret_name: as the class gives it; may be empty, which is then the problem.
        message: the text of the event: the class, the Secret, the cause and the remedy.
        error: the cause.
    """

    secret_name: str
    message: str
    error: KeyferryError


class SecretReconciler:
    """Keeps the Secrets that volumes of this node name.

    Args:
        store: where Secrets and events go.
        volumes: what is published here.
        providers: tell how the files of a class may be called.
        garbage_collector: lets go what nobody uses.
        metrics: what is counted.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        volumes: VolumeTable,
        providers: Providers,
        garbage_collector: SecretGarbageCollector,
        metrics: SecretMetrics,
    ) -> None:
        self._store = store
        self._volumes = volumes
        self._providers = providers
        self._garbage_collector = garbage_collector
        self._metrics = metrics
        self._owner_classes: dict[NamespacedName, str] = {}
        self._problems: dict[NamespacedName, dict[str, SecretProblem]] = {}
        self._reported: dict[tuple[NamespacedName, str], str] = {}
        """By Secret and uid of whom it is about: the text of the last event."""
        self._versions: dict[NamespacedName, str] = {}

    def synced_version(self, key: NamespacedName) -> str | None:
        """The resourceVersion at which the Secret was right; None while it is not."""
        return self._versions.get(key)

    def problems(self, spc: SecretProviderClass) -> tuple[SecretProblem, ...]:
        """What is wrong with the Secrets of `spc`, in its order."""
        found = (
            self._problems.get((spc.namespace, name), {}).get(spc.name)
            for name in dict.fromkeys(entry.name for entry in spc.secret_objects)
        )
        return tuple(problem for problem in found if problem is not None)

    def failing(self) -> set[NamespacedName]:
        """The Secrets with which something is wrong."""
        return set(self._problems)

    async def reconcile(self, key: NamespacedName) -> bool:
        """Makes one Secret right; False when it is to be tried again."""
        try:
            usage = await usage_of(key, self._volumes, self._store)
            if usage.consumers:
                return await self._ensure(key, usage)
            self._forget(key)
            if usage.pending:
                return True
            return self._volumes.restored and await self._garbage_collector.delete_if_unused(key)
        except StoreUnavailableError as error:
            _log.warning(
                "a Secret waits for the store", secret=ObjectName(*key), **error.log_pairs()
            )
            return False
        except StoreError as error:
            _log.error(
                "a Secret that is used here no more cannot be let go",
                secret=ObjectName(*key),
                **error.log_pairs(),
            )
            return True

    async def _ensure(self, key: NamespacedName, usage: Usage) -> bool:
        classes = {cls.name: cls for cls in usage.classes}
        before = self._owner_classes.get(key, "")
        first = classes.get(before) or next(iter(classes.values()))
        error = await self._apply(key, first, usage)
        if isinstance(error, SecretConflictError) and error.owner_class in classes:
            first = classes[error.owner_class]
            error = await self._apply(key, first, usage)
        self._owner_classes[key] = first.name
        problems: dict[str, KeyferryError] = {} if error is None else {first.name: error}
        holder = error.owner_class if isinstance(error, SecretConflictError) else first.name
        for other in classes.values():
            if other is not first:
                problems[other.name] = _conflict_error(key, holder)
        await self._report_problems(key, usage, problems)
        return not isinstance(error, StoreError) or isinstance(
            error, SecretConflictError | SecretNotManagedError
        )

    async def _apply(
        self, key: NamespacedName, spc: SecretProviderClass, usage: Usage
    ) -> KeyferryError | None:
        """Makes it what `spc` says; returns what hindered it."""
        self._versions.pop(key, None)
        users = [user for user in usage.consumers if user.spc.name == spc.name]
        source = max(users, key=lambda user: user.volume.fetched_at)
        try:
            with self._metrics.timed_sync(spc.provider):
                secret = await self._desired(spc, source, users)
                secret = replace(secret, claim=self._claim(key, spc, source, usage))
                applied = await self._store.apply_secret(secret)
        except KeyferryError as error:
            self._metrics.sync_failed(error)
            return error
        self._versions[key] = applied.resource_version
        await self._report_outcome(key, source, secret, applied)
        return None

    async def _desired(
        self, spc: SecretProviderClass, source: Consumer, consumers: Sequence[Consumer]
    ) -> DesiredSecret:
        files = await run_in_thread_uncancelled(read_volume, Path(source.volume.target_path))
        named = self._providers.named_files(spc.provider, spc.parameters)
        pods = [(await self._find_pod(user), user.volume.owner) for user in consumers]
        owners, disowned = owners_of(pods)
        # On a thread, because a TLS Secret loads the certificate library and parses private keys.
        secret = await asyncio.to_thread(
            build_secret, spc.namespace, source.entry, files, named, owners
        )
        return replace(secret, removed_owner_uids=disowned)

    async def _find_pod(self, consumer: Consumer) -> Pod | None:
        """The pod, asked for where the mirror does not have it yet."""
        if consumer.pod is not None:
            return consumer.pod
        wanted = consumer.volume.pod
        try:
            found = await self._store.cluster.find_pod(wanted.namespace, wanted.name)
        except StoreError:
            return None
        return found if found is not None and found.uid == wanted.uid else None

    def _claim(
        self, key: NamespacedName, spc: SecretProviderClass, source: Consumer, usage: Usage
    ) -> SecretClaim:
        namespace, name = key
        known = (*self._store.cluster.classes(namespace), *usage.classes)
        return SecretClaim(
            class_name=spc.name,
            class_version=spc.version,
            fetched_at=source.volume.fetched_at,
            contenders=frozenset(other.name for other in known if name in other.secret_names)
            - {spc.name},
            adopt=name in spc.adopted_secrets,
        )

    # --- what is told ----------------------------------------------------------------------------

    async def _report_outcome(
        self, key: NamespacedName, source: Consumer, secret: DesiredSecret, result: ApplyResult
    ) -> None:
        pod, cls = source.volume.pod, source.spc
        match result.outcome:
            case ApplyOutcome.UNCHANGED:
                return
            case ApplyOutcome.RECREATED:
                event = secret_recreated(pod, cls, secret, result.previous_type)
                await self._store.record_event(event)
            case ApplyOutcome.REVERTED:
                self._metrics.drift_reverted()
                await self._store.record_event(secret_reverted(pod, cls, secret.name))
            case ApplyOutcome.CREATED | ApplyOutcome.UPDATED:
                pass
            case _:
                assert_never(result.effect)
        _log.info("Secret " + result.outcome.value, secret=ObjectName(*key), spc=_object_name(cls))

    async def _report_problems(
        self, key: NamespacedName, usage: Usage, errors: dict[str, KeyferryError]
    ) -> None:
        """Keep the problems of a Secret, and tell whom they concern, once."""
        self._problems.pop(key, None)
        concerned = {user.volume.pod.uid for user in usage.consumers if user.spc.name in errors}
        self._reported = {
            at: text for at, text in self._reported.items() if at[0] != key or at[1] in concerned
        }
        for user in usage.consumers:
            if error := errors.get(user.spc.name):
                event = secret_failed(user.volume.pod, user.spc, key[1], error)
                problem = SecretProblem(key[1], event.message, error)
                self._problems.setdefault(key, {})[user.spc.name] = problem
                if self._reported.get((key, user.volume.pod.uid)) == event.message:
                    continue
                self._reported[key, user.volume.pod.uid] = event.message
                _log.error(
                    "a Secret is not in step with its volume",
                    secret=ObjectName(*key),
                    spc=_object_name(user.spc),
                    pod=ObjectName(user.volume.pod.namespace, user.volume.pod.name),
                    targetPath=user.volume.target_path,
                    **error.log_pairs(),
                )
                if not isinstance(error, StoreUnavailableError):
                    await self._store.record_event(event)
                if isinstance(error, SecretConflictError):
                    await self._report_conflict(key, user.spc, error.owner_class, usage.classes)

    async def _report_conflict(
        self,
        key: NamespacedName,
        other_spc: SecretProviderClass,
        owner_class: str,
        classes: Iterable[SecretProviderClass],
    ) -> None:
        known = (*self._store.cluster.classes(key[0]), *classes)
        for cls in known:
            if cls.name == owner_class:
                for event in secret_conflict(key[1], cls, other_spc):
                    await self._store.record_event(event)
                return

    def _forget(self, key: NamespacedName) -> None:
        self._versions.pop(key, None)
        self._owner_classes.pop(key, None)
        self._problems.pop(key, None)
        self._reported = {at: text for at, text in self._reported.items() if at[0] != key}


def _conflict_error(key: NamespacedName, owner_class: str) -> SecretConflictError:
    return SecretConflictError(
        f"Secret {key[0]}/{key[1]} belongs to SecretProviderClass {key[0]}/{owner_class},"
        " which names it too",
        "Choose another secretName in one of the two classes.",
        owner_class=owner_class,
    )


def _object_name(spc: SecretProviderClass) -> ObjectName:
    return ObjectName(spc.namespace, spc.name)
