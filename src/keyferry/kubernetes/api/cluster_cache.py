"""Implements `ClusterView` with reflectors.

What is listed, watched and cached depends on this node, and not on the size of the cluster
(docs/adr/0022-watch-the-namespaces-of-the-node.md): its pods, the SecretProviderClasses and its pod
statuses in the namespaces of those pods, and metadata of the Secrets that it syncs.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from msgspec import Struct

from keyferry.aio.tasks import spawn
from keyferry.errors import ClassInvalidError, StoreError, StorePermissionError
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.resources import (
    PodResource,
    PodStatusResource,
    SecretProviderClassResource,
    SecretResource,
)
from keyferry.kubernetes.api.watches.by_namespace import NamespacedReflectors
from keyferry.kubernetes.api.watches.list_watcher import ApiListWatcher
from keyferry.kubernetes.api.watches.reflector import Reflector, api_backoff
from keyferry.kubernetes.class_codec import parse_class
from keyferry.kubernetes.cluster import (
    PodChanged,
    PodStatusDeleted,
    Reconnected,
    SecretChanged,
    SpcChanged,
)
from keyferry.kubernetes.live_secret import UNUSED_SINCE_ANNOTATION
from keyferry.kubernetes.markings import MANAGED_LABEL
from keyferry.kubernetes.names import DRIVER_NAME, MAX_LABEL, shortened
from keyferry.kubernetes.object_codec import NODE_LABEL, parse_pod, parse_pod_status
from keyferry.kubernetes.objects import SecretProviderClass
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.cluster import ClusterEvent, ClusterEventHandler
    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import Pod, PodStatus

T = TypeVar("T")


class _SecretVersion(Struct, frozen=True):
    """What is cached of a Secret."""

    namespace: str
    name: str
    resource_version: str
    unused_since: str


ClassOrError: TypeAlias = "SecretProviderClass | ClassInvalidError"
_SecretWatch: TypeAlias = "tuple[Reflector[_SecretVersion], asyncio.Task[None]]"

CLASSES = "SecretProviderClasses"

_log = get_logger("cluster")


class ClusterCache:
    """Implements `ClusterView`; its reflectors run from `start` to `stop`.

    Args:
        api: the Kubernetes API.
        node: the name of this node.
        driver_name: the name of the CSI driver; pods with its volumes are those that matter.
        backoff: returns the seconds to wait after `n` consecutive failures.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        node: str,
        driver_name: str = DRIVER_NAME,
        backoff: Callable[[int], float] = api_backoff,
    ) -> None:
        self._api = api
        self._backoff = backoff
        self._driver_name = driver_name
        self._own_label = {NODE_LABEL: shortened(node, limit=MAX_LABEL)}
        self.pod_reflector: Reflector[Pod] = self._new_reflector(
            ListOptions(PodResource, field_selector={"spec.nodeName": node}), parse_pod, "pods"
        )
        self._classes: NamespacedReflectors[ClassOrError] = NamespacedReflectors(
            self._new_class_reflector
        )
        self._pod_statuses: NamespacedReflectors[PodStatus] = NamespacedReflectors(
            self._new_pod_status_reflector
        )
        self._pods_in: Counter[str] = Counter()
        """How many pods of this node with volumes each namespace has."""
        self._has_synced = False
        self._secret_reflectors: dict[str, _SecretWatch] = {}
        self._unmanaged_reflectors: dict[NamespacedName, _SecretWatch] = {}
        self._handlers: list[ClusterEventHandler] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.pod_reflector.on_change.append(self._count_pods)
        self.pod_reflector.on_change.append(self._notify_pod_changed)
        self.pod_reflector.on_sync.append(self._notify_reconnected)

    def start(self) -> None:
        """Start the reflectors."""
        self._tasks.append(spawn(self.pod_reflector.run(), name="watch pods"))

    async def stop(self) -> None:
        """Stop all reflectors."""
        watches = (*self._secret_reflectors.values(), *self._unmanaged_reflectors.values())
        tasks = [*self._tasks, *(task for _, task in watches)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._classes.stop()
        await self._pod_statuses.stop()

    async def wait_synced(self) -> None:
        """Wait until all reflectors are in sync; the store works before that, too."""
        await self.pod_reflector.in_sync.wait()
        await self._classes.wait_synced()
        await self._pod_statuses.wait_synced()

    def problem(self) -> str | None:
        """Return why SecretProviderClasses or pod statuses may be missing, or None.

        Not about a namespace that is used for the first time: what is not cached is fetched. Nor
        about a missing permission to list pods: namespaces are then watched from the first publish.
        """
        if self._has_synced:
            return None
        pods = self.pod_reflector
        if not pods.has_synced and not isinstance(pods.failure, StorePermissionError):
            return "the pods of this node are not listed yet"
        for reflector in (*self._classes, *self._pod_statuses):
            if not reflector.has_synced:
                return f"the {reflector.name} are not listed yet"
        self._has_synced = True
        return None

    # -- SecretProviderClasses and pod statuses ----------------------------------------------------

    def find_class(self, namespace: str, name: str) -> ClassOrError | None:
        """Return a cached SecretProviderClass, or why it is invalid; None if it is not cached.

        Its namespace is watched from now on.
        """
        self._pod_statuses.touch(namespace)
        return self._classes.touch(namespace).get(namespace, name)

    def seed_class(self, manifest: Manifest, namespace: str) -> None:
        """Note a SecretProviderClass that was fetched because it was not cached."""
        self._classes.touch(namespace).seed(manifest)

    async def list_classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """Return the valid SecretProviderClasses of a namespace, also of one that is not watched.

        Raises:
            StoreError: it is not watched, and the API is unavailable.
        """
        reflector = self._classes.find(namespace)
        if reflector is not None and reflector.has_synced:
            return self.classes(namespace)
        manifests = await self._api.list(ListOptions(SecretProviderClassResource, namespace))
        found = (class_or_error(manifest) for manifest in manifests)
        return tuple(spc for spc in found if isinstance(spc, SecretProviderClass))

    def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """Return a cached pod status of this node, or None."""
        return self._pod_statuses.get(namespace, name)

    def synced_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """Return a pod status of this node as it is now; None if that is not known."""
        reflector = self._pod_statuses.find(namespace)
        if reflector is None or not reflector.in_sync.is_set():
            return None
        return reflector.get(namespace, name)

    def upsert_pod_status(self, manifest: Manifest, namespace: str) -> None:
        """Store a pod status that was written, before the watch reports it."""
        self._pod_statuses.touch(namespace).upsert(manifest)

    def _new_class_reflector(self, namespace: str) -> Reflector[ClassOrError]:
        reflector: Reflector[ClassOrError] = self._new_reflector(
            ListOptions(SecretProviderClassResource, namespace),
            class_or_error,
            f"{CLASSES} of {namespace}",
        )
        reflector.on_change.append(self._notify_class_changed)
        return reflector

    def _new_pod_status_reflector(self, namespace: str) -> Reflector[PodStatus]:
        reflector = self._new_reflector(
            ListOptions(PodStatusResource, namespace, label_selector=self._own_label),
            status_or_none,
            f"pod statuses of {namespace}",
        )
        reflector.on_change.append(self._notify_pod_status_deleted)
        return reflector

    def _count_pods(self, before: Pod | None, after: Pod | None) -> None:
        """Watch the namespaces that have pods with volumes."""
        counts = self._pods_in
        known = frozenset(counts)
        for pod, difference in ((before, -1), (after, 1)):
            if pod is not None and any(each.driver == self._driver_name for each in pod.volumes):
                counts[pod.namespace] += difference
                if not counts[pod.namespace]:
                    del counts[pod.namespace]
        if (now := frozenset(counts)) != known:
            self._classes.use(now)
            self._pod_statuses.use(now)

    # --- ClusterView -----------------------------------------------------------------------------

    def subscribe(self, handler: ClusterEventHandler) -> None:
        """Call `handler` with every later event; handlers run in the order of subscription."""
        self._handlers.append(handler)

    def classes(self, namespace: str) -> tuple[SecretProviderClass, ...]:
        """Return the valid SecretProviderClasses of a namespace, as far as it is watched."""
        reflector = self._classes.find(namespace)
        return tuple(
            spc
            for spc in (reflector.items() if reflector else ())
            if isinstance(spc, SecretProviderClass)
        )

    def local_pod_statuses(self) -> tuple[PodStatus, ...]:
        """Return the pod statuses of this node."""
        return tuple(self._pod_statuses.items())

    def local_pods(self) -> tuple[Pod, ...]:
        """Return the pods of this node."""
        return tuple(self.pod_reflector.items())

    def local_pod(self, namespace: str, name: str) -> Pod | None:
        """Return a pod of this node, or None."""
        return self.pod_reflector.get(namespace, name)

    async def find_pod(self, namespace: str, name: str) -> Pod | None:
        """Return a pod of any node, or None."""
        manifest = await self._api.find(PodResource, namespace, name)
        return None if manifest is None else parse_pod(manifest)

    async def list_pod_statuses(self, namespace: str) -> tuple[PodStatus, ...]:
        """Return the pod statuses of all nodes."""
        manifests = await self._api.list(ListOptions(PodStatusResource, namespace))
        statuses = (status_or_none(manifest) for manifest in manifests)
        return tuple(status for status in statuses if status is not None)

    async def count_pod_statuses(self, namespace: str) -> int:
        """Return about how many pod statuses a namespace has, with one small request."""
        return await self._api.count(ListOptions(PodStatusResource, namespace))

    async def get_node_publish_secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """Return the data of a Secret of `nodePublishSecretRef`, as kubelet would send it."""
        manifest = await self._api.find(SecretResource, namespace, name)
        if manifest is None:
            raise StoreError(
                f"Secret {namespace}/{name} of nodePublishSecretRef does not exist",
                "Create the Secret, or correct the name in the pod.",
            )
        try:
            data = Field(manifest)["data"].text_mapping()
            return {key: base64.b64decode(text).decode() for key, text in data.items()}
        except (FieldTypeError, binascii.Error, UnicodeError):
            raise StoreError(
                f"Secret {namespace}/{name} of nodePublishSecretRef has a value that is not text",
                "Store only text values.",
            ) from None

    async def list_pending_pods(self, namespace: str) -> tuple[Pod, ...]:
        """Return the pods of all nodes that do not run yet."""
        options = ListOptions(PodResource, namespace, field_selector={"status.phase": "Pending"})
        pods = (parse_pod(manifest) for manifest in await self._api.list(options))
        return tuple(pod for pod in pods if pod is not None)

    def watch_secrets(
        self, namespaces: frozenset[str], unmanaged: frozenset[NamespacedName] = frozenset()
    ) -> None:
        """Watch managed Secrets in exactly these namespaces, and exactly these unmanaged ones."""
        for namespace in self._secret_reflectors.keys() - namespaces:
            self._secret_reflectors.pop(namespace)[1].cancel()
        for namespace in sorted(namespaces - self._secret_reflectors.keys()):
            self._secret_reflectors[namespace] = self._watch_secrets(
                ListOptions(SecretResource, namespace, {MANAGED_LABEL: "true"}, metadata_only=True),
                f"Secrets of {namespace}",
            )
        for key in self._unmanaged_reflectors.keys() - unmanaged:
            self._unmanaged_reflectors.pop(key)[1].cancel()
        for namespace, name in sorted(unmanaged - self._unmanaged_reflectors.keys()):
            by_name = {"metadata.name": name}
            self._unmanaged_reflectors[namespace, name] = self._watch_secrets(
                ListOptions(SecretResource, namespace, field_selector=by_name, metadata_only=True),
                f"Secret {namespace}/{name}",
            )

    def _watch_secrets(self, options: ListOptions, name: str) -> _SecretWatch:
        reflector: Reflector[_SecretVersion] = self._new_reflector(options, _secret_version, name)
        reflector.on_change.append(self._notify_secret_changed)
        # The permission for the list may be new, and with it the one for writes.
        reflector.on_sync.append(self._notify_reconnected)
        return reflector, spawn(reflector.run(), name=f"watch {reflector.name}")

    def secret_resource_version(self, namespace: str, name: str) -> str | None:
        """Return the resourceVersion of a managed Secret; None if no watch has it."""
        reflector, _ = self._secret_reflectors.get(namespace, (None, None))
        if reflector is None or not reflector.in_sync.is_set():
            return None
        version = reflector.get(namespace, name)
        return version.resource_version if version else None

    # --- reflectors ------------------------------------------------------------------------------

    def _new_reflector(
        self, options: ListOptions, parse: Callable[[Manifest], T | None], name: str
    ) -> Reflector[T]:
        return Reflector(
            ApiListWatcher(self._api, options), parse, name=name, backoff=self._backoff
        )

    def _notify_class_changed(
        self,
        before: ClassOrError | None,
        after: ClassOrError | None,
    ) -> None:
        self._notify(
            SpcChanged(
                before if isinstance(before, SecretProviderClass) else None,
                after if isinstance(after, SecretProviderClass) else None,
            )
        )

    def _notify_pod_changed(self, before: Pod | None, after: Pod | None) -> None:
        self._notify(PodChanged(before, after))

    def _notify_pod_status_deleted(self, before: PodStatus | None, after: PodStatus | None) -> None:
        if before is not None and after is None:
            self._notify(PodStatusDeleted(before))

    def _notify_secret_changed(
        self, before: _SecretVersion | None, after: _SecretVersion | None
    ) -> None:
        version = after or before
        assert version is not None
        self._notify(
            SecretChanged(
                version.namespace,
                version.name,
                unused_since=after.unused_since if after else "",
                deleted=after is None,
                resource_version=version.resource_version,
            )
        )

    def _notify_reconnected(self) -> None:
        self._notify(Reconnected())

    def _notify(self, event: ClusterEvent) -> None:
        for handler in self._handlers:
            handler(event)


def class_or_error(manifest: Manifest) -> ClassOrError:
    """Parse a SecretProviderClass; return the error if it is invalid."""
    try:
        return parse_class(manifest, default_namespace="")
    except ClassInvalidError as error:
        return ClassInvalidError(error.problem, error.remedy)


def status_or_none(manifest: Manifest) -> PodStatus | None:
    """Return the pod status of a manifest; None if it was changed to something else."""
    try:
        return parse_pod_status(manifest)
    except FieldTypeError:
        return None


def _secret_version(manifest: Manifest) -> _SecretVersion | None:
    metadata = Field(manifest)["metadata"]
    try:
        return _SecretVersion(
            metadata["namespace"].text(),
            metadata["name"].text(),
            metadata["resourceVersion"].text(),
            metadata["annotations"][UNUSED_SINCE_ANNOTATION].text(),
        )
    except FieldTypeError:
        return None
