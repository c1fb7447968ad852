"""The few calls to the Kubernetes API that the store makes, over lightkube.

Objects are plain manifests here; every method may raise a `StoreError` of `kube_errors`.
"""

from __future__ import annotations

import asyncio
import platform
import ssl
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec
from lightkube import AsyncClient
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from lightkube.types import PatchType
from msgspec import Struct, field

from keyferry import __version__
from keyferry.errors import StoreError
from keyferry.kubernetes.api.api_errors import (
    ApiGoneError,
    ApiNotFoundError,
    RbacRemedy,
    driver_rbac_remedy,
    error_for_status,
    translate_errors,
)
from keyferry.kubernetes.api.list_pages import Page, PageDocument, selection
from keyferry.kubernetes.api.resources import NodeResource, resource_name
from keyferry.kubernetes.api.transport import KubeTransport
from keyferry.kubernetes.api.watches.changes import LATEST_VERSION, Began, Expired
from keyferry.kubernetes.api.watches.stream import (
    WatchEndedError,
    read_changes,
    watch_parameters,
)
from keyferry.kubernetes.api.write_check import permit_write
from keyferry.kubernetes.markings import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from lightkube.config.kubeconfig import SingleConfig
    from lightkube.core.generic_client import BasicRequest

    from keyferry.kubernetes.api.resources import GlobalResource, Resource
    from keyferry.kubernetes.api.watches.changes import Change, WatchStart
    from keyferry.kubernetes.api.write_check import WriteCheck
    from keyferry.kubernetes.object_codec import Manifest

T = TypeVar("T")

USER_AGENT = f"keyferry/{__version__} ({platform.system().lower()}/{platform.machine()})"
"""Identifies Keyferry in the audit log of the cluster."""
MAX_CONCURRENT_WRITES = 8
"""Limit of concurrent writes, so that a starting node does not open many connections."""

_PAGE_SIZE = 500
_WATCH_TIMEOUT = httpx2.Timeout(10.0, read=None)
"""A watch is quiet for a long time; `read_changes` limits it."""
_ALL_NAMESPACES = "*"
_METADATA_KIND = "PartialObjectMetadata"
_METADATA_ACCEPT = "application/json;as={kind};g=meta.k8s.io;v=v1,application/json"


class ListOptions(Struct, frozen=True):
    """Selects objects of one kind.

    Attributes:
        kind: the resource class.
        namespace: "*" for all.
        label_selector: labels with their values; None for any value.
        field_selector: fields with their values, such as `spec.nodeName`.
        metadata_only: fetch only the metadata.
    """

    kind: type[Resource]
    namespace: str = _ALL_NAMESPACES
    label_selector: Mapping[str, str | None] = field(default_factory=dict)
    field_selector: Mapping[str, str] = field(default_factory=dict)
    metadata_only: bool = False

    @property
    def scope(self) -> str:
        """The namespaces, for messages."""
        return "of all namespaces" if self.namespace == _ALL_NAMESPACES else f"in/{self.namespace}"


@asynccontextmanager
async def open_api(
    config: SingleConfig,
    *,
    field_manager: str = FIELD_MANAGER,
    rbac_remedy: RbacRemedy = driver_rbac_remedy,
) -> AsyncIterator[KubeApi]:
    """Open the API of `config`; leaving the block closes its connections.

    Args:
        config: the address and the credentials.
        field_manager: of all writes.
        rbac_remedy: returns how to grant a missing permission.

    Raises:
        StoreError: a certificate or key of `config` cannot be used.
    """
    try:
        tls = verify_cluster(config.cluster, config.user or User(), config.abs_file)
        client = AsyncClient(config, field_manager=field_manager, transport=KubeTransport(tls))
    except (OSError, ssl.SSLError, ConfigError, ValueError) as error:
        raise StoreError(
            f"the certificates or credentials for {config.cluster.server} cannot be used"
            f" ({type(error).__name__})",
            "Check certificate-authority, client-certificate and client-key of the kubeconfig.",
        ) from error
    # lightkube has no parameters for these (docs/adr/0013-private-parts-of-libraries.md).
    client._client._client.headers["User-Agent"] = USER_AGENT
    async with client:
        server = urlsplit(config.cluster.server).netloc
        yield KubeApi(client, server=server, rbac_remedy=rbac_remedy)


def _unchanged(manifest: Manifest) -> Manifest:
    return manifest


class KubeApi:
    """Sends requests to the Kubernetes API. Every method may raise `StoreError`.

    A write may wait for other writes; its `check_write` is called after that.

    Args:
        client: has the address and the credentials.
        server: host and port, for messages.
        rbac_remedy: returns how to grant a missing permission.

    Attributes:
        streams_lists: whether the server may stream lists; cleared when it has refused.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        server: str,
        rbac_remedy: RbacRemedy = driver_rbac_remedy,
    ) -> None:
        self._client = client
        self._server = server
        self._rbac_remedy = rbac_remedy
        self.streams_lists = True
        self._write_slots = asyncio.Semaphore(MAX_CONCURRENT_WRITES)

    def _translated(self, verb: str, resource: str, name: str) -> AbstractContextManager[None]:
        return translate_errors(
            verb, resource, name, server=self._server, rbac_remedy=self._rbac_remedy
        )

    async def find(self, kind: type[Resource], namespace: str, name: str) -> Manifest | None:
        """Return the object, or None."""
        try:
            with self._translated("get", resource_name(kind), f"{namespace}/{name}"):
                return dict(await self._client.get(kind, name, namespace=namespace))
        except ApiNotFoundError:
            return None

    async def find_global(self, kind: type[GlobalResource], name: str) -> Manifest | None:
        """Return an object without a namespace, or None."""
        try:
            with self._translated("get", resource_name(kind), name):
                return dict(await self._client.get(kind, name))
        except ApiNotFoundError:
            return None

    async def create_global(self, kind: type[GlobalResource], manifest: Manifest) -> Manifest:
        """Create an object without a namespace. Returns the answer."""
        with self._translated("create", resource_name(kind), "of the cluster"):
            return dict(await self._client.create(kind(manifest)))

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
        """Server-side apply an object. Returns the new manifest.

        Args:
            kind: of the object.
            namespace: of the object.
            name: of the object.
            manifest: the fields that Keyferry owns; a resourceVersion in it must match.
            force: take fields over from other managers instead of raising `ApiConflictError`.
            field_manager: who owns the fields.
            check_write: see `WriteCheck`.
        """
        return await self._patch(
            kind,
            namespace,
            name,
            manifest,
            patch_type=PatchType.APPLY,
            force=force,
            field_manager=field_manager,
            check_write=check_write,
        )

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
        """Merge a patch; lists such as ownerReferences are merged by the key of their items."""
        return await self._patch(
            kind,
            namespace,
            name,
            patch,
            patch_type=PatchType.STRATEGIC,
            field_manager=field_manager,
            check_write=check_write,
        )

    async def json_merge(
        self,
        kind: type[Resource],
        namespace: str,
        name: str,
        patch: Manifest,
        *,
        check_write: WriteCheck = permit_write,
    ) -> Manifest:
        """Merge a patch into a custom resource; lists are replaced as a whole."""
        return await self._patch(
            kind, namespace, name, patch, patch_type=PatchType.MERGE, check_write=check_write
        )

    async def _patch(
        self,
        kind: type[Resource],
        namespace: str,
        name: str,
        patch: Manifest,
        *,
        patch_type: PatchType,
        check_write: WriteCheck,
        force: bool = False,
        field_manager: str = FIELD_MANAGER,
    ) -> Manifest:
        with self._translated("patch", resource_name(kind), f"{namespace}/{name}"):
            async with self._write_slots:
                check_write()
                return dict(
                    await self._client.patch(
                        kind,
                        name,
                        patch,
                        namespace=namespace,
                        patch_type=patch_type,
                        field_manager=field_manager,
                        force=force,
                    )
                )

    async def create(self, kind: type[Resource], namespace: str, manifest: Manifest) -> Manifest:
        """Create an object; `ApiConflictError` if it exists. Returns the new manifest."""
        with self._translated("create", resource_name(kind), f"in {namespace}"):
            async with self._write_slots:
                return dict(await self._client.create(kind(manifest)))

    async def create_subresource(
        self, kind: type[Resource], namespace: str, name: str, manifest: Manifest
    ) -> Manifest:
        """Post to a subresource of the object `name`. Returns the answer."""
        body = kind({**manifest, "metadata": {"name": name, "namespace": namespace}})
        with self._translated("create", resource_name(kind), f"{namespace}/{name}"):
            answer = await self._client.create(body, name, namespace=namespace)  # type: ignore[call-overload]
            return dict(answer)

    async def replace(
        self, kind: type[Resource], namespace: str, name: str, manifest: Manifest
    ) -> Manifest:
        """Replace an object by a manifest with its name. Returns the new manifest.

        Raises:
            ApiNotFoundError: it does not exist.
            ApiConflictError: it no longer has the resourceVersion of `manifest`.
        """
        with self._translated("update", resource_name(kind), f"{namespace}/{name}"):
            return dict(await self._client.replace(kind(manifest)))

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
        """Delete the object with this uid and resourceVersion.

        Raises:
            ApiNotFoundError: it does not exist.
            ApiConflictError: it was replaced or changed.
        """
        generic = self._client._client  # its public delete has no preconditions
        with self._translated("delete", resource_name(kind), f"{namespace}/{name}"):
            request = generic.prepare_request("delete", kind, name=name, namespace=namespace)
            request.data = {"preconditions": {"uid": uid, "resourceVersion": resource_version}}
            check_write()
            adapted = generic.build_adapter_request(request)
            response = await generic.send(adapted)  # type: ignore[no-untyped-call]
            generic.handle_response("delete", response, request)

    async def remove_taint(self, node: str, key: str) -> bool:
        """Remove every taint with this key from a node. Returns whether there was one.

        Raises:
            ApiConflictError: the node changed meanwhile.
        """
        with self._translated("patch", "nodes", node):
            manifest = dict(await self._client.get(NodeResource, node))
            taints = manifest["spec"].get("taints", [])
            remaining = [taint for taint in taints if taint["key"] != key]
            if len(remaining) == len(taints):
                return False
            version = manifest["metadata"]["resourceVersion"]
            patch = {
                "metadata": {"resourceVersion": version},
                "spec": {"taints": remaining or None},
            }
            await self._client.patch(NodeResource, node, patch, patch_type=PatchType.MERGE)
            return True

    async def list(self, options: ListOptions) -> tuple[Manifest, ...]:
        """Return all objects of a selection."""
        return await self.list_parsed(options, _unchanged)

    async def list_parsed(
        self, options: ListOptions, parse: Callable[[Manifest], T]
    ) -> tuple[T, ...]:
        """Return all objects of a selection in their latest state, fetched and parsed by pages.

        A page that took too long expires the next one. Then all objects are fetched at once, as
        client-go does.
        """
        try:
            return await self._list(options, parse, paged=True)
        except ApiGoneError:
            return await self._list(options, parse, paged=False)

    async def _list(
        self, options: ListOptions, parse: Callable[[Manifest], T], *, paged: bool
    ) -> tuple[T, ...]:
        objects: list[T] = []
        async with aclosing(self.pages(options, version=LATEST_VERSION, paged=paged)) as pages:
            async for page in pages:
                objects += [parse(manifest) for manifest in page.objects]
        return tuple(objects)

    async def pages(
        self, options: ListOptions, *, version: str, paged: bool
    ) -> AsyncGenerator[Page, None]:
        """Yield all objects of a selection.

        Args:
            options: the selection.
            version: the state must not be older than this resourceVersion.
            paged: fetch at most 500 objects at once. With a `version`, the watch cache of the
                server answers, which ignores that.

        Raises:
            ApiGoneError: a page has expired.
        """
        kind, generic = options.kind, self._client._client
        headers = {"Accept": _METADATA_ACCEPT.format(kind=_METADATA_KIND + "List")}
        request = generic.prepare_request(
            "list",
            kind,
            namespace=options.namespace,
            params={
                **selection(options.label_selector, options.field_selector),
                "limit": _PAGE_SIZE if paged else None,
                "resourceVersion": version or None,
            },
            headers=headers if options.metadata_only else None,
        )
        while True:
            with self._translated("list", resource_name(kind), options.scope):
                page = await self._page(request)
            yield Page(tuple(page.items or ()), page.metadata.resource_version)
            if not page.metadata.token:
                return
            request.params["continue"] = page.metadata.token

    async def count(self, options: ListOptions) -> int:
        """Return about how many objects a selection without selectors has."""
        kind, generic = options.kind, self._client._client
        request = generic.prepare_request(
            "list", kind, namespace=options.namespace, params={"limit": 1}
        )
        with self._translated("list", resource_name(kind), options.scope):
            page = await self._page(request)
        return len(page.items or ()) + page.metadata.remaining

    async def _page(self, request: BasicRequest) -> PageDocument:
        generic = self._client._client
        adapted = generic.build_adapter_request(request)
        response = await generic.send(adapted)  # type: ignore[no-untyped-call]
        generic.raise_for_status(response)  # type: ignore[no-untyped-call]
        return msgspec.json.decode(response.content, type=PageDocument)

    async def pod_page(
        self, namespace: str, pod: str, port: int, path: str, *, max_bytes: int
    ) -> bytes:
        """Return a page that a pod serves over HTTP; the API server connects to the pod.

        Raises:
            StoreError: the API refuses, the pod does not respond, or the page is larger.
        """
        url = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/{path}"
        with self._translated("get", "pods/proxy", f"{namespace}/{pod}"):
            async with self._client._client._client.stream("GET", url) as response:
                response.raise_for_status()
                page = bytearray()
                async for chunk in response.aiter_bytes():
                    page += chunk
                    if len(page) > max_bytes:
                        raise StoreError(f"/{path} of pod {pod} is larger than {max_bytes} bytes")
        return bytes(page)

    async def openapi(self, api_version: str) -> object:
        """Return the OpenAPI document of an API group and version; every client may read it."""
        with self._translated("get", "openapi", api_version):
            response = await self._client._client._client.get(f"/openapi/v3/apis/{api_version}")
            response.raise_for_status()
            return msgspec.json.decode(response.content)

    async def watch(self, options: ListOptions, start: WatchStart) -> AsyncGenerator[Change, None]:
        """Yield what a selection has, if `start` wants it, and its changes; until the stream ends.

        Raises:
            ApiStatusError: the server refuses the request, or ends the stream with an error.
        """
        kind, generic = options.kind, self._client._client
        headers = {"Accept": _METADATA_ACCEPT.format(kind=_METADATA_KIND)}
        request = generic.prepare_request(
            "list",
            kind,
            namespace=options.namespace,
            watch=True,
            params={
                **selection(options.label_selector, options.field_selector),
                **watch_parameters(start),
            },
            headers=headers if options.metadata_only else None,
        )
        request.timeout = _WATCH_TIMEOUT
        adapter_request = generic.build_adapter_request(request)
        with self._translated("watch", resource_name(kind), options.scope):
            response = await generic.send(adapter_request, stream=True)  # type: ignore[no-untyped-call]
        try:
            with self._translated("watch", resource_name(kind), options.scope):
                if response.is_error:
                    await response.aread()
                    generic.raise_for_status(response)  # type: ignore[no-untyped-call]
                yield Began()
                async with aclosing(read_changes(response.aiter_bytes())) as changes:
                    async for change in changes:
                        yield change
        except ApiGoneError:
            yield Expired()
        except WatchEndedError as error:
            raise error_for_status(
                error.code,
                "",
                verb="watch",
                resource=resource_name(kind),
                name=options.scope,
                rbac_remedy=self._rbac_remedy,
            ) from None
        finally:
            await response.aclose()
