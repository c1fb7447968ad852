"""A Kubernetes API in the memory of the test: the objects of `kube_objects` without HTTP.

api = MemoryApi()
store = SecretStore(api)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from keyferry.errors import KeyferryError
from keyferry.kubernetes.api.api_errors import ApiNotFoundError, error_for_status
from keyferry.kubernetes.api.client import KubeApi
from keyferry.kubernetes.api.resources import Resource, resource_name
from keyferry.kubernetes.api.write_check import WriteCheck, permit_write
from keyferry.kubernetes.markings import FIELD_MANAGER
from keyferry.kubernetes.object_codec import Manifest
from tests.fakes.kube_objects import ObjectKey, ObjectTracker, StatusError


class MemoryApi(KubeApi):
    """Implements what the store of Secrets uses of `KubeApi`.

    Attributes:
        objects: all objects.
        calls: each as `VERB plural`, with the verb of RBAC.
        error: raised by every write, if it is set.
    """

    def __init__(self) -> None:
        self.objects = ObjectTracker()
        self.calls: list[str] = []
        self.error: KeyferryError | None = None

    @property
    def writes(self) -> list[str]:
        """The calls that change something."""
        return [call for call in self.calls if not call.startswith("get ")]

    async def find(self, kind: type[Resource], namespace: str, name: str) -> Manifest | None:
        """Return an object, or None."""
        try:
            with self._call("get", kind, namespace, name) as key:
                return self.objects.manifest(key)
        except ApiNotFoundError:
            return None

    async def apply(
        self,
        kind: type[Resource],
        namespace: str,
        name: str,
        manifest: Manifest,
        *,
        force: bool,
        field_manager: str = FIELD_MANAGER,
        check_write: WriteCheck = permit_write,
    ) -> Manifest:
        """Server-side apply an object."""
        check_write()
        with self._call("patch", kind, namespace, name) as key:
            return self.objects.apply(key, manifest, field_manager, force=force)

    async def strategic_merge(
        self,
        kind: type[Resource],
        namespace: str,
        name: str,
        patch: Manifest,
        *,
        field_manager: str = FIELD_MANAGER,
        check_write: WriteCheck = permit_write,
    ) -> Manifest:
        """Merge a patch."""
        check_write()
        with self._call("patch", kind, namespace, name) as key:
            return self.objects.merge(key, patch, field_manager)

    async def delete(
        self,
        kind: type[Resource],
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str,
        check_write: WriteCheck = permit_write,
    ) -> None:
        """Delete an object with this uid and resourceVersion."""
        check_write()
        with self._call("delete", kind, namespace, name) as key:
            self.objects.delete(key, {"uid": uid, "resourceVersion": resource_version})

    @contextmanager
    def _call(
        self, verb: str, kind: type[Resource], namespace: str, name: str
    ) -> Iterator[ObjectKey]:
        resource = resource_name(kind)
        self.calls.append(f"{verb} {resource}")
        if self.error is not None and verb != "get":
            raise self.error
        try:
            yield resource, namespace, name
        except StatusError as error:
            where = f"{namespace}/{name}"
            raise error_for_status(
                error.code, error.status["reason"], verb=verb, resource=resource, name=where
            ) from None
