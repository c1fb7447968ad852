"""Implements the object store with the Kubernetes API.

The pods and pod statuses of this node, and the SecretProviderClasses in their namespaces, are
cached, so that a mount rarely calls the API, and uses cached objects while the API is unavailable.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from keyferry.aio.tasks import spawn
from keyferry.errors import ClassInvalidError, StoreError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.api_errors import ApiConflictError, ApiNotFoundError
from keyferry.kubernetes.api.client import open_api
from keyferry.kubernetes.api.cluster_cache import (
    ClusterCache,
    class_or_error,
    status_or_none,
)
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.crd_check import REMEDY, dropped_fields, missing_fields
from keyferry.kubernetes.api.events import EventRecorder
from keyferry.kubernetes.api.resources import PodStatusResource, SecretProviderClassResource
from keyferry.kubernetes.api.secret_store import SecretStore
from keyferry.kubernetes.api.watches.reflector import api_backoff
from keyferry.kubernetes.class_codec import CLASS_KIND, class_not_found_error
from keyferry.kubernetes.names import (
    DRIVER_NAME,
    MAX_LABEL,
    check_names,
    shortened,
)
from keyferry.kubernetes.object_codec import (
    POD_STATUS_API_VERSION,
    POD_STATUS_KIND,
    pod_status_manifest,
    pod_status_patch,
    refresh_status_manifest,
)
from keyferry.kubernetes.objects import ApplyResult, OwnerReference
from keyferry.kubernetes.pod_status import (
    continued_condition,
    is_condition_recorded,
    is_recorded,
    rewrite_interval,
)
from keyferry.records import replace
from keyferry.telemetry.help_links import NO_LINKS
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
    from keyferry.telemetry.help_links import HelpLinks

SECRET_ATTEMPTS = 5
"""Attempts to write a Secret that changes between read and write."""
DRAIN_SECONDS = 2.0
"""How long closing the store waits for unwritten events."""
CRD_CHECK_SECONDS = 3600.0
"""How often CRDs of upstream are looked at again: somebody may have applied those of Keyferry."""

_log = get_logger("kube")


@asynccontextmanager
async def open_kube_store(
    kubeconfig: Path | None,
    *,
    node: str,
    clock: Clock,
    driver_name: str = DRIVER_NAME,
    backoff: Callable[[int], float] = api_backoff,
    links: HelpLinks = NO_LINKS,
) -> AsyncIterator[KubeStore]:
    """Open the store of the Kubernetes API; its reflectors run while the block does.

    Args:
        kubeconfig: see `load_config`.
        node: the name of this node, whose pods and pod statuses are cached.
        clock: reads the time for events.
        driver_name: the name of the CSI driver.
        backoff: returns the seconds to wait after `n` consecutive failures.
        links: add links to the messages of events.

    Raises:
        StoreError: no API is configured, or the credentials are invalid. An unavailable API is
            not an error.
    """
    async with open_api(load_config(kubeconfig)) as api:
        events = EventRecorder(api, clock=clock, backoff=backoff, links=links)
        cluster = ClusterCache(api, node=node, driver_name=driver_name, backoff=backoff)
        store = KubeStore(api, cluster=cluster, events=events)
        tasks = [
            spawn(events.run(), name="event recorder"),
            spawn(_check_crds(api, store, clock), name="check CRDs"),
        ]
        try:
            cluster.start()
            yield store
            await store.drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await cluster.stop()


async def _check_crds(api: KubeApi, store: KubeStore, clock: Clock) -> None:
    """Warn if the CRDs are those of upstream, and notice when they are replaced."""
    await store.wait_synced()
    missing: tuple[str, ...] = ("unknown",)
    while missing:
        try:
            openapi = await api.openapi(POD_STATUS_API_VERSION)
        except StoreError as error:
            _log.debug("CRDs cannot be checked", error=str(error))
        else:
            missing = missing_fields(cast("Value", openapi))
            store.note_dropped_fields(missing)
        if missing:
            await clock.sleep(CRD_CHECK_SECONDS)


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
        self._secrets = SecretStore(api)
        self._cluster = cluster
        self._events = events
        self._crds_drop_conditions = False

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
        found = self._cluster.find_class(namespace, name)
        if found is None:
            check_names(namespace, name, CLASS_KIND)
            manifest = await self._api.find(SecretProviderClassResource, namespace, name)
            if manifest is None:
                raise class_not_found_error(
                    namespace,
                    name,
                    "Apply it to the namespace of the pod, or correct the name in the volume.",
                )
            self._cluster.seed_class(manifest, namespace)
            found = class_or_error(manifest)
        if isinstance(found, ClassInvalidError):
            # A new error for each call, so that no two callers share a traceback.
            raise ClassInvalidError(found.problem, found.remedy)
        return found

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """Return a pod status of any node, or None."""
        if found := self._cluster.find_pod_status(namespace, name):
            return found
        check_names(namespace, name, POD_STATUS_KIND)
        manifest = await self._api.find(PodStatusResource, namespace, name)
        return None if manifest is None else status_or_none(manifest)

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create or update a pod status, with its condition; labels of others stay.

        Most refreshes change nothing, so what the pod status says already is not written.
        """
        check_names(status.namespace, status.name, POD_STATUS_KIND)
        status = replace(status, node=shortened(status.node, limit=MAX_LABEL))
        found = self._cluster.find_pod_status(status.namespace, status.name)
        if status.refresh is not None:
            known_refresh = found.refresh if found else None
            status = replace(status, refresh=continued_condition(known_refresh, status.refresh))
        known = self._cluster.synced_pod_status(status.namespace, status.name)
        if known and is_recorded(known, status, with_condition=not self._crds_drop_conditions):
            return OwnerReference(POD_STATUS_API_VERSION, POD_STATUS_KIND, status.name, known.uid)
        answer = await self._write_pod_status(status, exists=found is not None)
        return OwnerReference(POD_STATUS_API_VERSION, POD_STATUS_KIND, status.name, _uid(answer))

    async def _write_pod_status(self, status: PodStatus, *, exists: bool) -> Manifest:
        """Create a pod status, or patch it if it `exists`; the cache may be wrong about that.

        Of both, the API server drops fields that the CRDs of upstream lack. A server-side apply
        with such a field would be rejected as a whole.
        """
        manifest, patch = pod_status_manifest(status, {}), pod_status_patch(status)
        try:
            answer = await self._create_or_patch(status, manifest, patch, exists=exists)
        except (ApiConflictError, ApiNotFoundError):
            answer = await self._create_or_patch(status, manifest, patch, exists=not exists)
        self._note_answer(manifest, answer, status.namespace)
        return answer

    async def _create_or_patch(
        self, status: PodStatus, manifest: Manifest, patch: Manifest, *, exists: bool
    ) -> Manifest:
        if exists:
            return await self._api.json_merge(
                PodStatusResource, status.namespace, status.name, patch
            )
        return await self._api.create(PodStatusResource, status.namespace, manifest)

    async def apply_refresh_condition(
        self, namespace: str, name: str, condition: RefreshCondition
    ) -> None:
        """Write the Refreshed condition of a pod status if it has changed.

        No-op if the pod status does not exist, or the CRDs drop the condition.
        """
        check_names(namespace, name, POD_STATUS_KIND)
        found = self._cluster.find_pod_status(namespace, name)
        condition = continued_condition(found.refresh if found else None, condition)
        known = self._cluster.synced_pod_status(namespace, name)
        if self._crds_drop_conditions or (
            known is not None
            and known.refresh is not None
            and is_condition_recorded(known.refresh, condition, rewrite_interval(namespace, name))
        ):
            return
        with suppress(ApiNotFoundError):
            patch: Manifest = {"status": refresh_status_manifest(condition)}
            answer = await self._api.json_merge(PodStatusResource, namespace, name, patch)
            self._note_answer(patch, answer, namespace)

    def _note_answer(self, written: Manifest, answer: Manifest, namespace: str) -> None:
        """Cache the answer to a write of a pod status, and note whether the CRDs dropped fields."""
        self._cluster.upsert_pod_status(answer, namespace)
        self.note_dropped_fields(dropped_fields(written, answer))

    def note_dropped_fields(self, fields: tuple[str, ...]) -> None:
        """Note which fields of a status the CRDs drop; conditions are then not compared."""
        self._crds_drop_conditions = bool(fields)
        _warn_of_old_crds(fields)

    async def apply_secret(self, secret: DesiredSecret) -> ApplyResult:
        """Create or update a Secret; see `SecretStore`."""
        return await self._secrets.apply_secret(secret)

    async def find_secret(self, namespace: str, name: str) -> LiveSecret | None:
        """Return the live Secret, or None."""
        return await self._secrets.find_secret(namespace, name)

    async def delete_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Delete a Secret if it is still `expected`. Returns False if it changed."""
        return await self._secrets.delete_secret(namespace, name, expected)

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
        return await self._secrets.mark_secret_unused(
            namespace, name, expected, since=since, owner=owner
        )

    async def release_secret(self, namespace: str, name: str, expected: LiveSecret) -> bool:
        """Remove what Keyferry wrote to an adopted Secret. Returns False if it changed."""
        return await self._secrets.release_secret(namespace, name, expected)

    async def record_event(self, event: Event) -> None:
        """Queue an event; never waits for the API."""
        self._events.record(event)

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait up to `seconds` until the queued events are written."""
        await self._events.drain(seconds)

    async def volume_removed(self, target_path: str) -> None:
        """Do nothing: Kubernetes deletes pod statuses and Secrets with their owners."""


def _uid(manifest: Manifest) -> str:
    try:
        return Field(manifest)["metadata"]["uid"].text()
    except FieldTypeError:
        return ""
