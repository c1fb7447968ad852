"""Calls the Kubernetes API as an administrator, without a process for each call.

async with open_client(server) as client:
    await client.apply(secret_provider_class, secret_sync, namespace="shop")
    await client.merge("Secret", "shop", "db", {"stringData": {"password": "edited"}})
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.e2e.cluster.api_server import ADMINISTRATORS, ApiServer
from tests.e2e.cluster.kubectl import Document

AUTHOR = "author"
"""The field manager of the objects that tests apply."""

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_RESOURCES = {
    "ClusterRole": (_RBAC, "clusterroles"),
    "ClusterRoleBinding": (_RBAC, "clusterrolebindings"),
    "Event": ("/api/v1", "events"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "Namespace": ("/api/v1", "namespaces"),
    "Pod": ("/api/v1", "pods"),
    "Role": (_RBAC, "roles"),
    "RoleBinding": (_RBAC, "rolebindings"),
    "Secret": ("/api/v1", "secrets"),
    "SecretProviderClass": ("/apis/secrets-store.csi.x-k8s.io/v1", "secretproviderclasses"),
    "SecretSync": ("/apis/secret-sync.x-k8s.io/v1alpha1", "secretsyncs"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "ValidatingAdmissionPolicy": (_ADMISSION, "validatingadmissionpolicies"),
    "ValidatingAdmissionPolicyBinding": (_ADMISSION, "validatingadmissionpolicybindings"),
}
"""Path of the API, and plural, by kind."""
_CLUSTER_SCOPED = {
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}


class ApiClient:
    """Calls the API.

    Args:
        session: authenticates as an administrator.
        server: the API server.
    """

    def __init__(self, session: aiohttp.ClientSession, server: ApiServer) -> None:
        self._session = session
        self._url = server.address.url

    def url(self, kind: str, namespace: str = "", name: str = "") -> str:
        """Return the URL of an object, or of all objects of a kind."""
        api, plural = _RESOURCES[kind]
        is_global = kind in _CLUSTER_SCOPED or not namespace
        scope = "" if is_global else f"/namespaces/{namespace}"
        return f"{self._url}{api}{scope}/{plural}{f'/{name}' if name else ''}"

    async def apply(self, *documents: Document, namespace: str = "") -> list[Document]:
        """Apply objects as `kubectl apply --server-side`, all at once; return them.

        Args:
            documents: the objects.
            namespace: of those that name none.
        """
        return await asyncio.gather(*(self._apply(each, namespace) for each in documents))

    async def _apply(self, document: Document, namespace: str) -> Document:
        metadata = document["metadata"]
        where = metadata.get("namespace", namespace)
        url = self.url(document["kind"], where, metadata["name"])
        return await self.call(
            "PATCH",
            f"{url}?fieldManager={AUTHOR}&force=true",
            document,
            content="application/apply-patch+yaml",
        )

    async def merge(self, kind: str, namespace: str, name: str, patch: Document) -> Document:
        """Change an object with a JSON merge patch."""
        url = self.url(kind, namespace, name)
        return await self.call("PATCH", url, patch, content="application/merge-patch+json")

    async def annotate(
        self, kind: str, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> Document:
        """Set annotations of an object; None removes one."""
        patch = {"metadata": {"annotations": dict(annotations)}}
        return await self.merge(kind, namespace, name, patch)

    async def get(self, kind: str, namespace: str, name: str) -> Document:
        """Return an object."""
        return await self.call("GET", self.url(kind, namespace, name))

    async def items(self, kind: str, namespace: str = "") -> list[Document]:
        """Return all objects of a kind."""
        items: list[Document] = (await self.call("GET", self.url(kind, namespace)))["items"]
        return items

    async def delete(self, kind: str, namespace: str, name: str, **options: object) -> None:
        """Delete an object; `options` are those of DeleteOptions."""
        await self.call("DELETE", self.url(kind, namespace, name), options or None)

    async def call(
        self, method: str, url: str, body: object = None, *, content: str = "application/json"
    ) -> Document:
        """Send a request and return the response.

        Raises:
            AssertionError: it failed; the message contains the response.
        """
        data = None if body is None else json.dumps(body)
        headers = {} if data is None else {"Content-Type": content}
        async with self._session.request(method, url, data=data, headers=headers) as response:
            text = await response.text()
        assert response.status < 400, f"{method} {url}: {response.status} {text}"
        document: Document = json.loads(text)
        return document

    async def watch(self, kind: str, resource_version: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the watch events of a kind in all namespaces until the server ends the stream."""
        query = {"watch": "1", "resourceVersion": resource_version, "allowWatchBookmarks": "true"}
        async with self._session.get(self.url(kind), params=query) as response:
            assert 200 == response.status, f"watch of {kind}: {response.status}"
            async for line in response.content:
                yield json.loads(line)


@asynccontextmanager
async def open_client(server: ApiServer) -> AsyncIterator[ApiClient]:
    """Open connections to the API as an administrator."""
    certificate, key = server.authority.issue("api-client", user="admin", group=ADMINISTRATORS)
    tls = ssl.create_default_context(cafile=str(server.authority.certificate))
    tls.load_cert_chain(certificate, key)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=32),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        read_bufsize=1 << 22,  # the longest line of a watch
    ) as session:
        yield ApiClient(session, server)
