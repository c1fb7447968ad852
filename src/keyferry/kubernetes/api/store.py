"""Implements the object store with the Kubernetes API.

SecretProviderClasses, and the pods and pod statuses of this node, are cached, so that a mount
rarely calls the API, and uses cached objects while the API is unavailable.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never, cast

from keyferry.aio.tasks import spawn
from keyferry.errors import ClassInvalidError, StoreError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.api_errors import ApiConflictError, ApiNotFoundError
from keyferry.kubernetes.api.client import (
    PodStatusResource,
    SecretProviderClassResource,
    SecretResource,
    open_api,
)
from keyferry.kubernetes.api.cluster_cache import (
    ClusterCache,
    class_or_error,
    status_or_none,
)
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.crd_check import REMEDY, dropped_fields, missing_fields
from keyferry.kubernetes.api.events import EventRecorder
from keyferry.kubernetes.api.reflector import api_backoff
from keyferry.kubernetes.api.secret_patch import (
    applied_content,
    created_content,
    follow_up_patch,
    kept_owners_patch,
    release_requests,
    unused_patch,
)
from keyferry.kubernetes.class_codec import CLASS_KIND, class_not_found_error
from keyferry.kubernetes.names import (
    MAX_LABEL,
    check_names,
    shortened,
)
from keyferry.kubernetes.object_codec import (
    POD_STATUS_API_VERSION,
    POD_STATUS_KIND,
    parse_secret,
    pod_status_manifest,
    refresh_status_manifest,
)
from keyferry.kubernetes.objects import ApplyOutcome, ApplyResult, OwnerReference
from keyferry.kubernetes.secret_plan import (
    Adopt,
    Create,
    Keep,
    Recreate,
    Update,
    for_live_secret,
    plan_secret,
    replaced_keys,
)
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from keyferry.aio.clock import Clock
    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import (
        DesiredSecret,
        Event,
        PodStatus,
        RefreshCondition,
        SecretProviderClass,
    )

SECRET_ATTEMPTS = 5
"""Attempts to write a Secret that changes between read and write."""
DRAIN_SECONDS = 2.0
"""How long closing the store waits for unwritten events."""

_log = get_logger("kube")


@asynccontextmanager
async def open_kube_store(
    kubeconfig: Path | None,
    *,
    node: str,
    clock: Clock,
    backoff: Callable[[int], float] = api_backoff,
) -> AsyncIterator[KubeStore]:
    """Open the store of the Kubernetes API; its reflectors run while the block does.

    Args:
        kubeconfig: see `load_config`.
        node: the name of this node, whose pods and pod statuses are cached.
        clock: reads the time for events.
        backoff: returns the seconds to wait after `n` consecutive failures.

    Raises:
        StoreError: no API is configured, or the credentials are invalid. An unavailable API is
            not an error.
    """
    async with open_api(load_config(kubeconfig)) as api:
        events = EventRecorder(api, clock=clock, backoff=backoff)
        cluster = ClusterCache(api, node=node, backoff=backoff)
        tasks = [
            spawn(events.run(), name="event recorder"),
            spawn(_check_crds(api, cluster), name="check CRDs"),
        ]
        try:
            cluster.start()
            store = KubeStore(api, cluster=cluster, events=events)
            yield store
            await store.drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await cluster.stop()


async def _check_crds(api: KubeApi, cluster: ClusterCache) -> None:
    """Warn if the CRDs are those of upstream."""
    await cluster.wait_synced()
    try:
        openapi = await api.openapi(POD_STATUS_API_VERSION)
    except StoreError as error:
        _log.debug("CRDs cannot be checked", error=str(error))
    else:
        _warn_of_old_crds(missing_fields(cast("Value", openapi)))


def _warn_of_old_crds(missing: tuple[str, ...]) -> None:
    if missing:
        _log.warning_once(
            "the CRDs drop fields of pod statuses: they are those of upstream or of an old version",
            fields=", ".join(f"status.{field}" for field in missing),
            remedy=REMEDY,
        )


class KubeStore:
    """Implements `ObjectStore` with the Kubernetes API.

    Args:
        api: the Kubernetes API.
        cluster: the cached objects.
        events: writes events.
    """

    def __init__(self, api: KubeApi, *, cluster: ClusterCache, events: EventRecorder) -> None:
        self._api = api
        self._cluster = cluster
        self._events = events

    @property
    def cluster(self) -> ClusterCache:
        """The cached objects."""
        return self._cluster

    async def wait_synced(self) -> None:
        """Wait until all reflectors are in sync; the store works before that, too."""
        await self._cluster.wait_synced()

    def problem(self) -> str | None:
        """Wait until the caches have synced with the API once."""
        return self._cluster.problem()

    @property
    def pending_events(self) -> int:
        """The number of events that are not written yet."""
        return self._events.pending

    async def remove_taint(self, node: str, key: str) -> bool:
        """Remove the taint `key` from `node`. Returns whether it was there."""
        return await self._api.remove_taint(node, key)

    async def get_class(self, namespace: str, name: str) -> SecretProviderClass:
        """Return a SecretProviderClass from the cache, else from the API.

        Raises:
            ClassNotFoundError: the class does not exist.
            ClassInvalidError: a field has the wrong type.
            StoreError: the cache does not contain it, and the API is unavailable.
        """
        found = self._cluster.class_reflector.get(namespace, name)
        if found is None:
            check_names(namespace, name, CLASS_KIND)
            manifest = await self._api.find(SecretProviderClassResource, namespace, name)
            if manifest is None:
                raise class_not_found_error(
                    namespace,
                    name,
                    "Apply it to the namespace of the pod, or correct the name in the volume.",
                )
            found = class_or_error(manifest)
        if isinstance(found, ClassInvalidError):
            # A new error for each call, so that no two callers share a traceback.
            raise ClassInvalidError(found.problem, found.remedy)
        return found

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """Return a pod status of any node, or None."""
        if found := self._cluster.pod_status_reflector.get(namespace, name):
            return found
        check_names(namespace, name, POD_STATUS_KIND)
        manifest = await self._api.find(PodStatusResource, namespace, name)
        return None if manifest is None else status_or_none(manifest)

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create or update a pod status; labels of others stay.

        Most refreshes change nothing, so an equal pod status is not written.
        """
        check_names(status.namespace, status.name, POD_STATUS_KIND)
        labelled = replace(status, node=shortened(status.node, limit=MAX_LABEL))
        reflector = self._cluster.pod_status_reflector
        known = reflector.get(status.namespace, status.name) if reflector.in_sync.is_set() else None
        if known == labelled:
            return OwnerReference(POD_STATUS_API_VERSION, POD_STATUS_KIND, status.name, known.uid)
        answer = await self._api.apply(
            PodStatusResource,
            status.namespace,
            status.name,
            pod_status_manifest(labelled, {}),
            force=True,
        )
        reflector.upsert(answer)
        return OwnerReference(POD_STATUS_API_VERSION, POD_STATUS_KIND, status.name, _uid(answer))

    async def apply_refresh_condition(
        self, namespace: str, name: str, condition: RefreshCondition
    ) -> None:
        """Write the Refreshed condition of a pod status; no-op if the pod status does not exist.

        It is a merge patch, of which the API drops fields that the CRDs of upstream lack. An apply
        with such a field would be rejected as a whole.
        """
        check_names(namespace, name, POD_STATUS_KIND)
        with suppress(ApiNotFoundError):
            patch: Manifest = {"status": refresh_status_manifest(condition)}
            answer = await self._api.json_merge(PodStatusResource, namespace, name, patch)
            _warn_of_old_crds(dropped_fields(patch, answer))

    async def apply_secret(self, secret: DesiredSecret) -> ApplyResult:
        """Create or update a Secret as `plan_secret` decides.

        Raises:
            SecretForeignError: one of that name is there that Keyferry did not make.
            SecretClaimedError: another class has it.
            StoreError: the API rejected the write, or is unavailable.
        """
        check_names(secret.namespace, secret.name, "Secret")
        for _ in range(SECRET_ATTEMPTS - 1):
            try:
                return await self._apply_secret(secret)
            except (ApiConflictError, ApiNotFoundError):
                continue
        return await self._apply_secret(secret)

    async def _apply_secret(self, wanted: DesiredSecret) -> ApplyResult:
        at = SecretResource, wanted.namespace, wanted.name
        live = await self.find_secret(wanted.namespace, wanted.name)
        desired = for_live_secret(wanted, live)
        plan = plan_secret(desired, live)
        match plan:
            case Keep():
                assert live is not None
                outcome, answer = ApplyOutcome.UNCHANGED, live
            case Update() | Adopt():
                assert live is not None
                outcome = ApplyOutcome.ADOPTED
                if isinstance(plan, Update):
                    outcome = ApplyOutcome.REVERTED if plan.reverts else ApplyOutcome.UPDATED
                content = applied_content(desired, live)
                answer = _parse_live_secret(await self._api.apply(*at, content, force=True))
            case Create():
                outcome = ApplyOutcome.CREATED
                content = created_content(desired, None)
                answer = _parse_live_secret(await self._api.apply(*at, content, force=False))
            case Recreate():
                assert live is not None
                outcome = ApplyOutcome.RECREATED
                await self._api.delete(*at, uid=live.uid, resource_version=live.resource_version)
                content = created_content(desired, live)
                try:
                    answer = _parse_live_secret(await self._api.apply(*at, content, force=False))
                except ApiConflictError:  # another node has created it, without these owners
                    await self._api.strategic_merge(*at, kept_owners_patch(desired, live))
                    raise
            case _:
                assert_never(plan)
        patch = follow_up_patch(desired, answer, keep_data=isinstance(plan, Keep))
        if patch is not None:
            answer = _parse_live_secret(await self._api.strategic_merge(*at, patch))
            outcome = ApplyOutcome.UPDATED if outcome is ApplyOutcome.UNCHANGED else outcome
        return ApplyResult(
            outcome,
            answer.resource_version,
            live.type if live else "",
            replaced_keys(desired, live) if live and isinstance(plan, Update | Adopt) else (),
        )

    async def find_secret(self, namespace: str, name: str) -> LiveSecret | None:
        """Return the live Secret, or None."""
        check_names(namespace, name, "Secret")
        found = await self._api.find(SecretResource, namespace, name)
        return None if found is None else _parse_live_secret(found)

    async def delete_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Delete a Secret if it is still `expected`. Returns False if it changed."""
        try:
            await self._api.delete(
                SecretResource,
                namespace,
                name,
                uid=expected.uid,
                resource_version=expected.resource_version,
            )
        except ApiNotFoundError:
            return True
        except ApiConflictError:
            return False
        return True

    async def mark_secret_unused(
        self,
        namespace: str,
        name: str,
        expected: LiveSecret,
        *,
        since: str,
        owner: OwnerReference | None,
    ) -> bool:
        """Mark a Secret as unused if it is still `expected`. Returns False if it changed."""
        patch = unused_patch(expected, since, owner)
        try:
            await self._api.strategic_merge(SecretResource, namespace, name, patch)
        except (ApiNotFoundError, ApiConflictError):
            return False
        return True

    async def release_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Remove what Keyferry wrote to an adopted Secret. Returns False if it changed."""
        at = SecretResource, namespace, name
        patch, apply = release_requests(namespace, name, expected)
        try:
            unmarked = _parse_live_secret(await self._api.strategic_merge(*at, patch))
            version = {"resourceVersion": unmarked.resource_version}
            content = {**apply, "metadata": {**Field(apply)["metadata"].mapping(), **version}}
            await self._api.apply(*at, content, force=True)
        except ApiNotFoundError:
            return True
        except ApiConflictError:
            return False
        return True

    async def record_event(self, event: Event) -> None:
        """Queue an event; never waits for the API."""
        self._events.record(event)

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait up to `seconds` until the queued events are written."""
        await self._events.drain(seconds)

    async def volume_removed(self, target_path: str) -> None:
        """Do nothing: Kubernetes deletes pod statuses and Secrets with their owners."""


def _parse_live_secret(manifest: Manifest) -> LiveSecret:
    try:
        return parse_secret(manifest, from_api=True)
    except FieldTypeError as error:
        raise StoreError(
            f"the Kubernetes API returned an invalid Secret: {error.problem}",
            "Check what answers at its address.",
        ) from None


def _uid(manifest: Manifest) -> str:
    try:
        return Field(manifest)["metadata"]["uid"].text()
    except FieldTypeError:
        return ""
