"""Ends managed Secrets that no pod of the cluster uses any more.

Kubernetes deletes a Secret with its last owner. With a grace period, a Secret that has an owner of
pods, such as a ReplicaSet, is left to Kubernetes. A Secret without one is marked when its last pod
stops using it, and deleted after the grace period. The states are in docs/concepts/secret-sync.md.

Pod statuses show whether pods of other nodes use the Secret. Those of pods without an owner are the
owners of the Secret, so they are read one by one. Only an adopted Secret, or one without a grace
period, needs a list of the pod statuses of its namespace. If two nodes check at the same moment,
each sees the pod of the other; the node whose pod status is deleted later checks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.aio.work_queue import After
from keyferry.driver.status.events import (
    secret_deleted,
    secret_deleted_with_owners,
    secret_unused,
)
from keyferry.errors import ClassInvalidError, ClassNotFoundError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.kubernetes.names import object_name_problem
from keyferry.kubernetes.object_codec import POD_STATUS_API_VERSION, POD_STATUS_KIND
from keyferry.kubernetes.objects import OwnerReference
from keyferry.kubernetes.secret_plan import has_newer_content
from keyferry.providers.known_fields.attributes import SPC_ATTRIBUTE
from keyferry.telemetry.logs import ObjectName, get_logger

if TYPE_CHECKING:
    from datetime import datetime

    from keyferry.driver.secrets.unused import UnusedSecrets
    from keyferry.kubernetes import ObjectStore, PodStatus
    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.names import NamespacedName
    from keyferry.kubernetes.objects import SecretProviderClass

MAX_PODS_CHECKED = 100
"""The maximum number of pods to check; if there are more, the Secret is kept."""
MAX_REMEMBERED = 1000
"""How many Secrets are remembered that pods of this node used."""
PENDING_POD_SECONDS = 60.0
"""How often a Secret is checked that a pod waits for which does not run yet."""

_CLASS_KIND = "SecretProviderClass"
_log = get_logger("release")


class SecretGarbageCollector:
    """Deletes unused Secrets, and releases adopted ones.

    Args:
        store: reads and deletes Secrets; its cluster view knows pods and pod statuses.
        unused: the Secrets whose grace period runs; None to delete unused Secrets at once.
    """

    def __init__(self, store: ObjectStore, unused: UnusedSecrets | None = None) -> None:
        self._store = store
        self._unused = unused if unused is not None and unused.grace_period > 0 else None
        self._tracked = unused
        self._absent: BoundedDict[NamespacedName, None] = BoundedDict(MAX_REMEMBERED)
        """Secrets that did not exist when they were last released, or were deleted since then."""
        self._kept: BoundedDict[NamespacedName, str] = BoundedDict(MAX_REMEMBERED)
        """The SecretProviderClasses of Secrets that existed when they were last released."""
        self._deleted: dict[NamespacedName, str] = {}
        """The SecretProviderClasses of Secrets that somebody else deleted."""

    def in_use(self, key: NamespacedName) -> None:
        """Note that a pod of this node uses the Secret."""
        self._forget(key)
        for known in (self._absent, self._kept, self._deleted):
            known.pop(key, None)

    def note_released(self, key: NamespacedName, owner_class: str) -> None:
        """Note that pods of this node used a Secret until now, so it existed."""
        self._kept[key] = owner_class

    def note_deleted(self, key: NamespacedName, owner_class: str, *, is_absent: bool) -> bool:
        """Note that a Secret was deleted; return whether `release` must report it.

        Args:
            key: the Secret.
            owner_class: its SecretProviderClass, if pods of this node use it; else "".
            is_absent: it does not exist now, so it need not be looked for.
        """
        if is_absent:
            self._absent[key] = None
        owner_class = owner_class or self._kept.pop(key, "")
        if owner_class:
            self._deleted[key] = owner_class
        return bool(owner_class)

    async def release(self, key: NamespacedName, *, terminating: bool) -> bool | After:
        """End the Secret `key`, which no running pod of this node uses.

        1. It does not exist, or Keyferry does not manage it: do nothing.
        2. Its SecretProviderClass no longer names it: end it, unless another one names it.
        3. Without a grace period: end it, unless a pod uses it.
        4. Kubernetes deletes it with its owners: do nothing.
        5. Otherwise: mark it, and end it when the grace period is over.

        Of an adopted Secret, only what Keyferry wrote is removed.

        Args:
            key: the Secret.
            terminating: a terminating pod of this node still uses it.

        Returns:
            False when the Secret changed in between, so that the call must be repeated.

        Raises:
            StoreError: the Kubernetes API is unavailable or rejects a request.
        """
        present = await self._find_managed(key)
        if present is None:
            self._forget(key)
            await self._report_deleted(key)
            return True
        spc = await self._find_class(key[0], present.owner_class)
        if spc is not None and key[1] not in spc.secret_names:
            return await self._end_dropped(key, present, spc)
        if self._unused is not None:
            return await self._release_later(
                key, present, spc, self._unused, terminating=terminating
            )
        if terminating or await self._used_on_other_nodes(key, present):
            return True
        return await self._end(key, present, spc, "no pod uses it")

    async def remove(
        self, key: NamespacedName, spc: SecretProviderClass, fetched_at: datetime
    ) -> None:
        """End a Secret that pods use, because the vault lacks the objects that it is made of.

        Without a grace period: it is for pods that return, and `onMissing: remove` is for content
        that must not be used any more. A Secret with newer content, of another node, is kept.

        Args:
            key: the Secret.
            spc: its SecretProviderClass.
            fetched_at: when the vault lacked the objects.

        Raises:
            StoreError: the Kubernetes API is unavailable or rejects a request.
        """
        present = await self._find_managed(key)
        if present is None or present.owner_class != spc.name:
            return
        if not has_newer_content(fetched_at, present):
            await self._end(
                key, present, spc, "the vault lacks optional objects of it, and onMissing is remove"
            )

    async def _find_managed(self, key: NamespacedName) -> LiveSecret | None:
        """Return the Secret if Keyferry manages it."""
        if object_name_problem(key[1]):
            return None
        if key in self._absent and not self._store.cluster.secret_resource_version(*key):
            return None
        present = await self._store.find_secret(*key)
        if present is None:
            self._absent[key] = None
            return None
        return present if present.managed and present.owner_class else None

    async def _end_dropped(
        self, key: NamespacedName, present: LiveSecret, spc: SecretProviderClass
    ) -> bool:
        if await self._classes_of(key):
            self._forget(key)
            return True
        return await self._end(key, present, spc, "its SecretProviderClass no longer lists it")

    async def _release_later(
        self,
        key: NamespacedName,
        present: LiveSecret,
        spc: SecretProviderClass | None,
        unused: UnusedSecrets,
        *,
        terminating: bool,
    ) -> bool | After:
        """Cases 4 and 5 of `release`."""
        if not present.adopted and (_has_lasting_owner(present) or (not spc and present.owners)):
            self._forget(key)
            return True
        if terminating:
            return key in unused or await self._mark(key, present, spc, unused, provisional=True)
        if await self._used_on_other_nodes(key, present):
            if present.unused_since and key in unused:
                # Its node removes the mark. If that node does not exist any more, this one ends it.
                return After(max(unused.grace_period, PENDING_POD_SECONDS))
            self._forget(key)
            return True
        if spc is None:
            # No pod can use it any more.
            return await self._end(key, present, None, "no pod uses it")
        return await self._end_after_grace_period(key, present, spc, unused)

    async def _end_after_grace_period(
        self,
        key: NamespacedName,
        present: LiveSecret,
        spc: SecretProviderClass,
        unused: UnusedSecrets,
    ) -> bool | After:
        if not present.unused_since or key not in unused or unused.is_provisional(key):
            marked = await self._mark(key, present, spc, unused, provisional=False)
            return After(unused.remaining(key)) if marked else False
        # Another node may have used and marked it since then: its period begins with that mark.
        unused.observe(key, present.unused_since)
        if remaining := unused.remaining(key):
            return After(remaining)
        if await self._pending_pod_uses(key, present):
            return After(PENDING_POD_SECONDS)
        return await self._end(key, present, spc, "no pod used it in the grace period")

    async def _mark(
        self,
        key: NamespacedName,
        present: LiveSecret,
        spc: SecretProviderClass | None,
        unused: UnusedSecrets,
        *,
        provisional: bool,
    ) -> bool:
        """Start the grace period. False if the Secret changed in between.

        Its SecretProviderClass becomes an owner, because Kubernetes would delete the Secret with
        the pod. So it still goes with the SecretProviderClass, even if this node does not exist any
        more.
        """
        await unused.start(key, provisional=provisional)
        owner = None
        if spc is not None and spc.uid and not present.adopted:
            owner = OwnerReference(POD_STATUS_API_VERSION, _CLASS_KIND, spc.name, spc.uid)
        marked = await self._store.mark_secret_unused(
            *key, present, since=unused.mark(key), owner=owner
        )
        if not marked:
            unused.forget(key)
        elif spc is not None and not provisional:
            seconds = unused.grace_period
            await self._store.record_event(secret_unused(spc, key[1], seconds, present.adopted))
        return marked

    async def _end(
        self,
        key: NamespacedName,
        present: LiveSecret,
        spc: SecretProviderClass | None,
        reason: str,
    ) -> bool:
        self._kept.pop(key, None)  # the watch may report the deletion before the API answers
        end = self._store.release_secret if present.adopted else self._store.delete_secret
        if not await end(*key, present):
            return False
        self._forget(key)
        if not present.adopted:
            self._absent[key] = None
        _log.info(
            "adopted Secret released" if present.adopted else "Secret deleted",
            secret=ObjectName(*key),
            spc=ObjectName(key[0], present.owner_class),
            reason=reason,
        )
        if spc is not None:
            await self._store.record_event(secret_deleted(spc, key[1], reason, present.adopted))
        return True

    async def _report_deleted(self, key: NamespacedName) -> None:
        """Report a Secret that was deleted, and whose pods then terminated."""
        owner_class = self._deleted.pop(key, "") or self._kept.pop(key, "")
        if not owner_class or key not in self._absent:
            return
        reason = "Kubernetes deleted it with its owners"
        _log.info("Secret deleted", secret=ObjectName(*key), reason=reason)
        spc = await self._find_class(key[0], owner_class)
        if spc is not None:
            await self._store.record_event(secret_deleted_with_owners(spc, key[1]))

    def _forget(self, key: NamespacedName) -> None:
        if self._tracked is not None:
            self._tracked.forget(key)

    # --- uses ------------------------------------------------------------------------------------

    async def _find_class(self, namespace: str, name: str) -> SecretProviderClass | None:
        try:
            return await self._store.get_class(namespace, name)
        except (ClassNotFoundError, ClassInvalidError):
            return None

    async def _classes_of(self, key: NamespacedName) -> set[str]:
        namespace, name = key
        classes = await self._store.cluster.list_classes(namespace)
        return {spc.name for spc in classes if name in spc.secret_names}

    async def _used_on_other_nodes(self, key: NamespacedName, present: LiveSecret) -> bool:
        """Return whether a running pod of another node uses the Secret; its node then ends it."""
        class_names = await self._class_names(key, present)
        own = {
            status.name
            for status in self._store.cluster.local_pod_statuses()
            if status.namespace == key[0]
        }
        if present.adopted or _has_lasting_owner(present):
            return await self._is_used_in_namespace(key[0], class_names, own)
        names = [each.name for each in present.owners if each.kind == POD_STATUS_KIND]
        others = [name for name in names if name not in own]
        if len(others) > MAX_PODS_CHECKED:
            return True
        for name in others:
            status = await self._store.find_pod_status(key[0], name)
            if status and status.class_name in class_names and await self._has_live_pod(status):
                return True
        return False

    async def _is_used_in_namespace(
        self, namespace: str, class_names: set[str], own: set[str]
    ) -> bool:
        """Return whether any pod of another node uses one of these SecretProviderClasses."""
        others = [
            status
            for status in await self._store.cluster.list_pod_statuses(namespace)
            if status.class_name in class_names and status.name not in own
        ]
        if len(others) > MAX_PODS_CHECKED:
            return True
        for status in others:
            if await self._has_live_pod(status):
                return True
        return False

    async def _pending_pod_uses(self, key: NamespacedName, present: LiveSecret) -> bool:
        """Return whether a pod of any node that is not mounted yet will use the Secret."""
        class_names = await self._class_names(key, present)
        for pod in await self._store.cluster.list_pending_pods(key[0]):
            names = {volume.attributes.get(SPC_ATTRIBUTE) for volume in pod.volumes}
            if not pod.terminating and names & class_names:
                return True
        return False

    async def _class_names(self, key: NamespacedName, present: LiveSecret) -> set[str]:
        return await self._classes_of(key) | {present.owner_class}

    async def _has_live_pod(self, status: PodStatus) -> bool:
        pod = await self._store.cluster.find_pod(status.namespace, status.pod.name)
        return pod is not None and pod.uid == status.pod.uid and not pod.completed


def _has_lasting_owner(present: LiveSecret) -> bool:
    """Whether it has an owner that can create pods again, such as a ReplicaSet."""
    return any(owner.kind not in {POD_STATUS_KIND, _CLASS_KIND} for owner in present.owners)
