"""What is known of the cluster, by mirrors of its API (see `store.cluster`).

Memory depends on this node: of pods and pod statuses only its own are mirrored, of Secrets only the
resourceVersion, in the namespaces that are asked for. Classes are few and small; all are mirrored.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from keyferry.errors import ClassInvalidError, StoreError
from keyferry.logs import get_logger
from keyferry.store.class_codec import parse_class
from keyferry.store.fields import Field, FieldTypeError
from keyferry.store.interface import ClassObject
from keyferry.store.kube_client import ApiSource, Selection
from keyferry.store.kube_kinds import Pods, PodStatuses, SecretProviderClasses, Secrets
from keyferry.store.manifest_codec import NODE_LABEL, stored_status
from keyferry.store.mirror import Mirror, backoff
from keyferry.store.names import MAX_LABEL, shortened
from keyferry.store.pod_codec import pod_facts
from keyferry.store.present_secret import MANAGED_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from keyferry.store.cluster import ClusterListener, PodFacts
    from keyferry.store.interface import PodStatus
    from keyferry.store.kube_client import KubeApi
    from keyferry.store.manifest_codec import Manifest

T = TypeVar("T")
_Mark: TypeAlias = "tuple[str, str, str]"
"""Namespace, name and resourceVersion of a Secret."""

_log = get_logger("cluster")


class KubeCluster:
    """Implements `Cluster`; its mirrors run from `start` to `stop`.

    Args:
        api: the calls.
        node: the name of this node.
        pause: seconds to wait after so many failures in a row.
    """

    def __init__(self, api: KubeApi, *, node: str, pause: Callable[[int], float] = backoff) -> None:
        self._api = api
        self._pause = pause
        mine = {NODE_LABEL: shortened(node, limit=MAX_LABEL)}
        self.class_mirror: Mirror[ClassObject | ClassInvalidError] = self._mirror(
            Selection(SecretProviderClasses), class_or_problem, "classes"
        )
        self.status_mirror: Mirror[PodStatus] = self._mirror(
            Selection(PodStatuses, labels=mine), status_or_none, "pod statuses"
        )
        self.pod_mirror: Mirror[PodFacts] = self._mirror(
            Selection(Pods, fields={"spec.nodeName": node}), pod_facts, "pods"
        )
        self._secrets: dict[str, tuple[Mirror[_Mark], asyncio.Task[None]]] = {}
        self._listeners: list[ClusterListener] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.class_mirror.on_change.append(self._class_changed)
        self.class_mirror.on_sync.append(self._api_back)
        self.pod_mirror.on_change.append(self._pod_changed)
        self.status_mirror.on_change.append(self._status_changed)

    def start(self) -> None:
        """Begin to follow the API."""
        for mirror in (self.class_mirror, self.status_mirror, self.pod_mirror):
            self._tasks.append(run_told(mirror.run(), f"mirror of {mirror.what}"))

    async def stop(self) -> None:
        """End all mirrors."""
        tasks = [*self._tasks, *(task for _, task in self._secrets.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_synced(self) -> None:
        """Waits until the mirrors follow the API; the store works before that too."""
        for mirror in (self.class_mirror, self.status_mirror, self.pod_mirror):
            await mirror.synced.wait()

    def problem(self) -> str | None:
        """Why classes or pod statuses may be unknown that are there; None once all were seen.

        Of the pods nothing is said: without them, owners are asked for one by one.
        """
        for mirror in (self.class_mirror, self.status_mirror):
            if not mirror.was_synced:
                return f"the {mirror.what} of the cluster are not read yet"
        return None

    # --- Cluster ---------------------------------------------------------------------------------

    def subscribe(self, listener: ClusterListener) -> None:
        """Tell `listener` of everything from now on."""
        self._listeners.append(listener)

    def classes(self, namespace: str) -> tuple[ClassObject, ...]:
        """The classes of a namespace, those that cannot be read left out."""
        return tuple(
            cls
            for cls in self.class_mirror.items()
            if isinstance(cls, ClassObject) and cls.namespace == namespace
        )

    def statuses(self) -> tuple[PodStatus, ...]:
        """The pod statuses of this node."""
        return tuple(self.status_mirror.items())

    def pods(self) -> tuple[PodFacts, ...]:
        """The pods of this node."""
        return tuple(self.pod_mirror.items())

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        """A pod of this node."""
        return self.pod_mirror.get(namespace, name)

    async def find_pod(self, namespace: str, name: str) -> PodFacts | None:
        """A pod of any node; None when there is none."""
        manifest = await self._api.find(Pods, namespace, name)
        return None if manifest is None else pod_facts(manifest)

    async def pod_statuses(self, namespace: str) -> tuple[PodStatus, ...]:
        """The pod statuses of all nodes."""
        listing = await self._api.list(Selection(PodStatuses, namespace))
        found = (status_or_none(manifest) for manifest in listing.manifests)
        return tuple(status for status in found if status is not None)

    async def secret_texts(self, namespace: str, name: str) -> Mapping[str, str]:
        """The data of a Secret that a `nodePublishSecretRef` names, as kubelet would send it."""
        manifest = await self._api.find(Secrets, namespace, name)
        if manifest is None:
            raise StoreError(
                f"Secret {namespace}/{name} of nodePublishSecretRef is not there",
                "Make it anew, or mend the name in the pod.",
            )
        try:
            data = Field(manifest)["data"].texts()
            return {key: base64.b64decode(text).decode() for key, text in data.items()}
        except (FieldTypeError, binascii.Error, UnicodeError):
            raise StoreError(
                f"Secret {namespace}/{name} of nodePublishSecretRef holds no texts",
                "Its values must be text.",
            ) from None

    def watch_secrets(self, namespaces: frozenset[str]) -> None:
        """Hear of Secrets in these namespaces, and in no others any more."""
        for namespace in self._secrets.keys() - namespaces:
            self._secrets.pop(namespace)[1].cancel()
        for namespace in sorted(namespaces - self._secrets.keys()):
            mirror: Mirror[_Mark] = self._mirror(
                Selection(Secrets, namespace, {MANAGED_LABEL: "true"}, metadata_only=True),
                _mark,
                f"Secrets of {namespace}",
            )
            mirror.on_change.append(self._secret_changed)
            task = run_told(mirror.run(), f"mirror of {mirror.what}")
            self._secrets[namespace] = mirror, task

    def secret_version(self, namespace: str, name: str) -> str | None:
        """The resourceVersion of a Secret with our label; None where no watch tells."""
        mirror, _ = self._secrets.get(namespace, (None, None))
        if mirror is None or not mirror.synced.is_set():
            return None
        mark = mirror.get(namespace, name)
        return mark[2] if mark else None

    # --- mirrors ---------------------------------------------------------------------------------

    def _mirror(
        self, wanted: Selection, parse: Callable[[Manifest], T | None], what: str
    ) -> Mirror[T]:
        return Mirror(ApiSource(self._api, wanted), parse, what=what, pause=self._pause)

    def _class_changed(
        self,
        before: ClassObject | ClassInvalidError | None,
        after: ClassObject | ClassInvalidError | None,
    ) -> None:
        for listener in self._listeners:
            listener.class_changed(
                before if isinstance(before, ClassObject) else None,
                after if isinstance(after, ClassObject) else None,
            )

    def _pod_changed(self, before: PodFacts | None, after: PodFacts | None) -> None:
        for listener in self._listeners:
            listener.pod_changed(before, after)

    def _status_changed(self, before: PodStatus | None, after: PodStatus | None) -> None:
        if before is not None and after is None:
            for listener in self._listeners:
                listener.status_gone(before)

    def _secret_changed(self, before: _Mark | None, after: _Mark | None) -> None:
        mark = after or before
        assert mark is not None
        for listener in self._listeners:
            listener.secret_changed(mark[0], mark[1])

    def _api_back(self) -> None:
        for listener in self._listeners:
            listener.api_back()


def class_or_problem(manifest: Manifest) -> ClassObject | ClassInvalidError:
    """The class, or why it is none."""
    try:
        return parse_class(manifest, default_namespace="")
    except ClassInvalidError as error:
        return ClassInvalidError(error.problem, error.remedy)


def status_or_none(manifest: Manifest) -> PodStatus | None:
    """The pod status; None where somebody wrote something else there."""
    try:
        return stored_status(manifest)
    except FieldTypeError:
        return None


def _mark(manifest: Manifest) -> _Mark | None:
    metadata = Field(manifest)["metadata"]
    try:
        return (
            metadata["namespace"].text(),
            metadata["name"].text(),
            metadata["resourceVersion"].text(),
        )
    except FieldTypeError:
        return None


def run_told(work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
    """Runs `work` in a task whose end by a defect is logged."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_of_end)
    return task


def _tell_of_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error(
            "stopped by a defect of Keyferry", task=task.get_name(), type=type(error).__name__
        )
