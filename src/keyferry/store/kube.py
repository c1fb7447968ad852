"""The object store of a cluster: the Kubernetes API.

Classes and the pod statuses of this node are mirrored, so that a mount seldom asks the API, and
goes on with what is known while the API is away. Secrets are never listed or watched.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from keyferry.errors import ClassInvalidError, ClassNotFoundError, StoreError
from keyferry.logs import get_logger
from keyferry.store.class_codec import KIND, parse_class
from keyferry.store.fields import Field, FieldTypeError
from keyferry.store.interface import ClassObject, OwnerReference
from keyferry.store.kube_client import (
    KindOf,
    KubeApi,
    PodStatuses,
    SecretProviderClasses,
    Secrets,
    open_api,
)
from keyferry.store.kube_config import load_config
from keyferry.store.kube_errors import ApiConflictError, ApiMissingError
from keyferry.store.kube_events import EventRecorder
from keyferry.store.kube_secrets import (
    applied_content,
    correction,
    present_secret,
    require_managed,
)
from keyferry.store.manifest_codec import (
    NODE_LABEL,
    STATUS_API_VERSION,
    STATUS_KIND,
    status_manifest,
    stored_status,
)
from keyferry.store.mirror import Mirror, backoff
from keyferry.store.names import MAX_LABEL, namespace_problem, object_name_problem, shortened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime
    from pathlib import Path

    from keyferry.store.interface import Event, PodStatus, SecretManifest
    from keyferry.store.manifest_codec import Manifest

SECRET_ATTEMPTS = 5
"""How often a Secret is read anew because it changed between reading and writing."""
DRAIN_SECONDS = 2.0
"""How long the end waits for events."""

_RESOURCE = "secretproviderclasses.secrets-store.csi.x-k8s.io"
_log = get_logger("kube")


@asynccontextmanager
async def open_kube_store(
    kubeconfig: Path | None,
    *,
    node: str,
    clock: Callable[[], datetime],
    pause: Callable[[int], float] = backoff,
) -> AsyncIterator[KubeStore]:
    """The store over the API of this cluster; its mirrors run while the block does.

    Args:
        kubeconfig: see `load_config`.
        node: the name of this node, whose pod statuses are mirrored.
        clock: tells the time for events.
        pause: seconds to wait after so many failures in a row.

    Raises:
        StoreError: nothing tells where the API is, or the credentials cannot be used. An API that
            is away is no error.
    """
    async with open_api(load_config(kubeconfig)) as api:
        events = EventRecorder(api, clock=clock)
        classes: Mirror[ClassObject | ClassInvalidError] = Mirror(
            KindOf(api, SecretProviderClasses, {}), _class_or_problem, what="classes", pause=pause
        )
        mine = {NODE_LABEL: shortened(node, limit=MAX_LABEL)}
        statuses = Mirror(
            KindOf(api, PodStatuses, mine), _status_or_none, what="pod statuses", pause=pause
        )
        tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("mirror of classes", classes.run()),
                ("mirror of pod statuses", statuses.run()),
                ("writer of events", events.run()),
            )
        ]
        for task in tasks:
            task.add_done_callback(_tell_of_end)
        try:
            store = KubeStore(api, classes=classes, statuses=statuses, events=events)
            yield store
            await store.drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class KubeStore:
    """Implements `ObjectStore` with the Kubernetes API.

    Args:
        api: the calls.
        classes: of all namespaces.
        statuses: of this node.
        events: writes events.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        classes: Mirror[ClassObject | ClassInvalidError],
        statuses: Mirror[PodStatus],
        events: EventRecorder,
    ) -> None:
        self._api = api
        self._classes = classes
        self._statuses = statuses
        self._events = events

    async def wait_synced(self) -> None:
        """Waits until both mirrors follow the API; the store works before that too."""
        await self._classes.synced.wait()
        await self._statuses.synced.wait()

    def problem(self) -> str | None:
        """Until both mirrors were in step with the API once; they go on with what they know."""
        for mirror in (self._classes, self._statuses):
            if not mirror.was_synced:
                return f"the {mirror.what} of the cluster are not read yet"
        return None

    async def remove_taint(self, node: str, key: str) -> bool:
        """Take the taint `key` from `node`; True when it was there."""
        return await self._api.remove_taint(node, key)

    async def get_class(self, namespace: str, name: str) -> ClassObject:
        """The class, from the mirror if it knows it, else from the API.

        Raises:
            ClassNotFoundError: there is none.
            ClassInvalidError: a field has the wrong type.
            StoreError: the mirror does not know it, and the API does not tell.
        """
        found = self._classes.get(namespace, name)
        if found is None:
            _check_names(namespace, name, KIND)
            manifest = await self._api.find(SecretProviderClasses, namespace, name)
            if manifest is None:
                raise ClassNotFoundError(
                    f"failed to get secretproviderclass {namespace}/{name}: "
                    f'{_RESOURCE} "{name}" not found',
                    "Apply it to the namespace of the pod, or mend the name in the volume.",
                )
            found = _class_or_problem(manifest)
        if isinstance(found, ClassInvalidError):
            # A new one for each call, so that no two share a traceback.
            raise ClassInvalidError(found.problem, found.remedy)
        return found

    async def find_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """The pod status of that name, if there is one; of another node, too."""
        if found := self._statuses.get(namespace, name):
            return found
        _check_names(namespace, name, STATUS_KIND)
        manifest = await self._api.find(PodStatuses, namespace, name)
        return None if manifest is None else _status_or_none(manifest)

    async def apply_pod_status(self, status: PodStatus) -> OwnerReference:
        """Create it, or make it equal to `status`; the labels of others stay."""
        _check_names(status.namespace, status.name, STATUS_KIND)
        labelled = replace(status, node=shortened(status.node, limit=MAX_LABEL))
        answer = await self._api.apply(
            PodStatuses, status.namespace, status.name, status_manifest(labelled, {}), force=True
        )
        self._statuses.put(answer)
        return OwnerReference(STATUS_API_VERSION, STATUS_KIND, status.name, _uid(answer))

    async def apply_secret(self, secret: SecretManifest) -> bool:
        """Create it, or make it equal to `secret`, adding its owners; True when it changed.

        A Secret of ours that has another type is deleted and made anew: the API lets no type
        change.

        Raises:
            StoreError: one of that name is there that Keyferry did not make, or the API refuses.
        """
        _check_names(secret.namespace, secret.name, "Secret")
        for _ in range(SECRET_ATTEMPTS - 1):
            try:
                return await self._apply_secret(secret)
            except (ApiConflictError, ApiMissingError):
                continue
        return await self._apply_secret(secret)

    async def _apply_secret(self, secret: SecretManifest) -> bool:
        at = Secrets, secret.namespace, secret.name
        found = await self._api.find(*at)
        present = None if found is None else present_secret(found)
        if present is not None:
            require_managed(secret, present)
        version = present.version if present else None
        if present is not None and present.type != secret.type:
            _log.info(
                "a Secret of another type is made anew",
                secret=f"{secret.namespace}/{secret.name}",
                was=present.type,
                becomes=secret.type,
            )
            await self._api.delete(*at)
            version = None
        content = applied_content(secret, version=version)
        answer = present_secret(await self._api.apply(*at, content, force=version is not None))
        patch = correction(secret, answer, earlier=present.owners if present else ())
        if patch is not None:
            answer = present_secret(await self._api.merge(*at, patch))
        return present is None or answer.version != present.version

    async def record_event(self, event: Event) -> None:
        """Record it soon, or count it once more; never waits for the API."""
        self._events.record(event)

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Waits, but not for ever, until the events so far are written."""
        await self._events.drain(seconds)

    async def volume_gone(self, target_path: str) -> None:
        """Nothing: the pod owns its status, and the status its Secrets."""


def _class_or_problem(manifest: Manifest) -> ClassObject | ClassInvalidError:
    try:
        return parse_class(manifest, default_namespace="")
    except ClassInvalidError as error:
        return ClassInvalidError(error.problem, error.remedy)


def _status_or_none(manifest: Manifest) -> PodStatus | None:
    try:
        return stored_status(manifest)
    except FieldTypeError:
        return None


def _uid(manifest: Manifest) -> str:
    try:
        return Field(manifest)["metadata"]["uid"].text()
    except FieldTypeError:
        return ""


def _check_names(namespace: str, name: str, kind: str) -> None:
    """Keeps names that are none out of the paths of URLs."""
    if problem := namespace_problem(namespace):
        raise StoreError(f"namespace {namespace[:80]!r} {problem}", "Kubernetes has no such name.")
    if problem := object_name_problem(name):
        raise StoreError(f"{kind} {name[:80]!r} {problem}", "Kubernetes has no such name.")


def _tell_of_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error(
            "stopped by a defect of Keyferry", task=task.get_name(), type=type(error).__name__
        )
