"""The few calls to the Kubernetes API that the store makes, over lightkube.

Objects are plain manifests here; every method may raise a `StoreError` of `kube_errors`.
"""

from __future__ import annotations

import asyncio
import platform
import ssl
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from lightkube import AsyncClient
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import (
    GenericGlobalResource,
    GenericNamespacedResource,
    create_api_info,
)
from lightkube.types import PatchType

from keyferry import __version__
from keyferry.errors import StoreError
from keyferry.store.kube_errors import ApiGoneError, ApiMissingError, translated
from keyferry.store.mirror import Change, Changed, Expired, Listing, Removed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from lightkube.config.kubeconfig import SingleConfig

    from keyferry.store.manifest_codec import Manifest

FIELD_MANAGER = "keyferry"
USER_AGENT = f"keyferry/{__version__} ({platform.system().lower()}/{platform.machine()})"
"""By which the audit log of the cluster knows us."""
STREAM_SECONDS = 240.0
"""A stream is left after this long, because a dead connection looks like a quiet one."""

_CRD_GROUP = "secrets-store.csi.x-k8s.io"
_PAGE = 500
_ALL = "*"


class Resource(GenericNamespacedResource):
    """A kind of object whose instances are plain mappings."""

    def __init__(self, manifest: Mapping[str, object]) -> None:
        super().__init__()
        self.update(manifest)


class SecretProviderClasses(Resource):
    """The classes."""

    _api_info = create_api_info(_CRD_GROUP, "v1", "SecretProviderClass", "secretproviderclasses")


class PodStatuses(Resource):
    """The pod statuses."""

    _api_info = create_api_info(
        _CRD_GROUP, "v1", "SecretProviderClassPodStatus", "secretproviderclasspodstatuses"
    )


class Secrets(Resource):
    """The Secrets."""

    _api_info = create_api_info("", "v1", "Secret", "secrets")


class Events(Resource):
    """The events."""

    _api_info = create_api_info("", "v1", "Event", "events")


class Nodes(GenericGlobalResource):
    """The nodes."""

    _api_info = create_api_info("", "v1", "Node", "nodes")


@asynccontextmanager
async def open_api(config: SingleConfig) -> AsyncIterator[KubeApi]:
    """The API that `config` names; its connections are closed with the block.

    Raises:
        StoreError: a certificate or key that it names cannot be used.
    """
    try:
        client = AsyncClient(config, field_manager=FIELD_MANAGER)
    except (OSError, ssl.SSLError, ConfigError, ValueError) as error:
        raise StoreError(
            f"the certificates or credentials for {config.cluster.server} cannot be used"
            f" ({type(error).__name__})",
            "Check certificate-authority, client-certificate and client-key of the kubeconfig.",
        ) from error
    # lightkube has no setting for it.
    client._client._client.headers["User-Agent"] = USER_AGENT
    async with client:
        yield KubeApi(client, server=urlsplit(config.cluster.server).netloc)


class KubeApi:
    """The calls.

    Args:
        client: knows the address and the credentials.
        server: host and port, for messages.
    """

    def __init__(self, client: AsyncClient, *, server: str) -> None:
        self._client = client
        self._server = server

    async def find(self, kind: type[Resource], namespace: str, name: str) -> Manifest | None:
        """The object, None when there is none."""
        try:
            with translated("get", _of(kind), f"{namespace}/{name}", server=self._server):
                return dict(await self._client.get(kind, name, namespace=namespace))
        except ApiMissingError:
            return None

    async def apply(
        self, kind: type[Resource], namespace: str, name: str, manifest: Manifest, *, force: bool
    ) -> Manifest:
        """Server-side apply.

        Args:
            kind: of the object.
            namespace: of the object.
            name: of the object.
            manifest: what Keyferry wants of it; with a resourceVersion only if it has that one.
            force: take fields over from other managers; else that is an `ApiConflictError`.
        """
        return await self._patch(
            kind, namespace, name, manifest, patch_type=PatchType.APPLY, force=force
        )

    async def merge(
        self, kind: type[Resource], namespace: str, name: str, patch: Manifest
    ) -> Manifest:
        """Strategic merge: lists such as ownerReferences are merged by the key of their items."""
        return await self._patch(
            kind, namespace, name, patch, patch_type=PatchType.STRATEGIC, force=False
        )

    async def _patch(
        self,
        kind: type[Resource],
        namespace: str,
        name: str,
        patch: Manifest,
        *,
        patch_type: PatchType,
        force: bool,
    ) -> Manifest:
        with translated("patch", _of(kind), f"{namespace}/{name}", server=self._server):
            return dict(
                await self._client.patch(
                    kind, name, patch, namespace=namespace, patch_type=patch_type, force=force
                )
            )

    async def create(self, kind: type[Resource], namespace: str, manifest: Manifest) -> None:
        """Make the object; `ApiConflictError` when it is there."""
        with translated("create", _of(kind), f"in {namespace}", server=self._server):
            await self._client.create(kind(manifest))

    async def delete(self, kind: type[Resource], namespace: str, name: str) -> None:
        """Delete the object; fine when there is none."""
        try:
            with translated("delete", _of(kind), f"{namespace}/{name}", server=self._server):
                await self._client.delete(kind, name, namespace=namespace)
        except ApiMissingError:
            return

    async def remove_taint(self, node: str, key: str) -> bool:
        """Take every taint with this key from the node; True when there was one.

        `ApiConflictError` when somebody else changed the node meanwhile.
        """
        with translated("patch", "nodes", node, server=self._server):
            found = dict(await self._client.get(Nodes, node))
            taints = found["spec"].get("taints", [])
            kept = [taint for taint in taints if taint["key"] != key]
            if len(kept) == len(taints):
                return False
            version = found["metadata"]["resourceVersion"]
            patch = {"metadata": {"resourceVersion": version}, "spec": {"taints": kept or None}}
            await self._client.patch(Nodes, node, patch, patch_type=PatchType.MERGE)
            return True

    async def list(self, kind: type[Resource], labels: Mapping[str, str]) -> Listing:
        """All objects of all namespaces with these labels, fetched page by page."""
        with translated("list", _of(kind), "of all namespaces", server=self._server):
            found = self._client.list(
                kind, namespace=_ALL, chunk_size=_PAGE, labels=dict(labels) or None
            )
            manifests = tuple([dict(item) async for item in found])
            return Listing(manifests, found.resourceVersion)

    async def watch(
        self, kind: type[Resource], labels: Mapping[str, str], version: str
    ) -> AsyncGenerator[Change, None]:
        """One stream of what happened to them after `version`."""
        end = asyncio.get_running_loop().time() + STREAM_SECONDS
        events = cast(
            "AsyncGenerator[tuple[str, Manifest], None]",
            self._client.watch(
                kind, namespace=_ALL, labels=dict(labels) or None, resource_version=version
            ),
        )
        async with aclosing(events):
            while True:
                try:
                    async with asyncio.timeout_at(end):
                        with translated(
                            "watch", _of(kind), "of all namespaces", server=self._server
                        ):
                            event, found = await anext(events)
                except (TimeoutError, StopAsyncIteration):
                    return
                except ApiGoneError:
                    yield Expired()
                    return
                yield Removed(dict(found)) if event == "DELETED" else Changed(dict(found))


class KindOf:
    """One kind of object as the source of a mirror.

    Args:
        api: the calls.
        kind: of the objects.
        labels: that they must have.
    """

    def __init__(self, api: KubeApi, kind: type[Resource], labels: Mapping[str, str]) -> None:
        self._api = api
        self._kind = kind
        self._labels = labels

    async def list(self) -> Listing:
        """All of them."""
        return await self._api.list(self._kind, self._labels)

    def watch(self, version: str) -> AsyncGenerator[Change, None]:
        """One stream of what happened after `version`."""
        return self._api.watch(self._kind, self._labels, version)


def _of(kind: type[Resource]) -> str:
    """The resource as RBAC and the messages of Kubernetes write it."""
    info = kind._api_info
    return ".".join(part for part in (info.plural, info.resource.group) if part)
