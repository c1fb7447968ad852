"""Service account tokens that a real API server issues for a pod and a real OpenBao verifies.

Behaviour 10 of docs/reference/compatibility-vault.md: an audience that kubelet sends no token for.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from keyferry.errors import ProviderReportedError
from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.providers.api import MountCall
from keyferry.providers.class_files import ClassFiles
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT,
)
from keyferry.providers.restrictions import UNRESTRICTED
from keyferry.providers.vault.auth.login import PodInfo
from keyferry.providers.vault.auth.service_account_tokens import ApiTokenRequester
from keyferry.providers.vault.http.client import VaultHttp
from keyferry.providers.vault.http.kubernetes_api import KubernetesApi
from keyferry.providers.vault.http.tls import TlsContexts
from tests.e2e.children import PATIENCE_SECONDS, ending_children
from tests.e2e.cluster.api_server import ApiServer, free_ports, running_api_server
from tests.e2e.cluster.cluster_auth import enable_cluster_auth, kubernetes_role
from tests.e2e.cluster.manifests import pod
from tests.e2e.cluster.waiting import eventually
from tests.e2e.node import LOCAL_VAULT_FLAGS
from tests.e2e.vault.classes import class_spec, entry
from tests.e2e.vault.engines import enable_kv, put_kv
from tests.e2e.vault.server import VaultServer, running_server
from tests.fakes.resilience import uncached_fetcher

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

AUDIENCE = "team-vault"
NAMESPACE = "shop"
KEYFERRY = "kube-system:keyferry"
IN_A_POD = """
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets/kubernetes.io
ln -s "$1" /run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"
"""
"""Run a command with the service account of a folder at the path that a pod has."""


@dataclass
class Cluster:
    """A Kubernetes API, a server that trusts it, and the service account of Keyferry.

    Attributes:
        api: the API server.
        vault: role `shop` is for service account shop/web with tokens for `AUDIENCE`.
        account: the folder with token and CA of service account `KEYFERRY`, as in a pod.
        folder: for the files of the tests.
    """

    api: ApiServer
    vault: VaultServer
    account: Path
    folder: Path

    async def new_pod(self, name: str) -> PodInfo:
        """Create a pod of service account shop/web."""
        document = pod(name, serviceAccountName="web", automountServiceAccountToken=False)
        await self.api.kubectl.apply(document, namespace=NAMESPACE)
        created = await self.api.kubectl.get("pod", name, f"--namespace={NAMESPACE}")
        return PodInfo(NAMESPACE, name, created["metadata"]["uid"], "web")

    @asynccontextmanager
    async def token_permission(self) -> AsyncIterator[None]:
        """Grant the permission of the chart's `createPodTokens` while the block runs."""
        await self.api.kubectl(
            *("create", "clusterrolebinding", "keyferry-pod-tokens"),
            *("--clusterrole=keyferry-pod-tokens", f"--serviceaccount={KEYFERRY}"),
        )
        await eventually(lambda: self._permission_is(granted=True), "the permission to be granted")
        try:
            yield
        finally:
            await self.api.kubectl("delete", "clusterrolebinding/keyferry-pod-tokens")
            await eventually(
                lambda: self._permission_is(granted=False), "the permission to be revoked"
            )

    async def _permission_is(self, *, granted: bool) -> bool | None:
        """Return True if the API server has applied the role; None if not yet."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": f"system:serviceaccount:{KEYFERRY}",
                "resourceAttributes": {
                    "namespace": NAMESPACE,
                    "verb": "create",
                    "resource": "serviceaccounts",
                    "subresource": "token",
                },
            },
        }
        response = await self.api.kubectl(
            "create", "--filename=-", "--output=json", stdin=json.dumps(review)
        )
        return True if granted == json.loads(response)["status"]["allowed"] else None

    @asynccontextmanager
    async def provider(self, *flags: str) -> AsyncIterator[ExternalProvider]:
        """Run `keyferry provider vault` as if in a pod of this cluster."""
        address = self.api.address
        async with ending_children(self.folder / "output") as children:
            socket = self.folder / "vault.sock"
            (health,) = free_ports(1)
            addresses = (f"-endpoint={socket}", f"-health-addr=127.0.0.1:{health}")
            arguments = ("provider", "vault", *addresses, *LOCAL_VAULT_FLAGS, *flags)
            child = children.start(
                *("provider", "unshare", "--mount", "sh", "-ec", IN_A_POD, "sh"),
                *(str(self.account), sys.executable, "-m", "keyferry", *arguments),
                environment={
                    "KUBERNETES_SERVICE_HOST": address.host,
                    "KUBERNETES_SERVICE_PORT": str(address.port),
                },
            )
            await child.says("ready")
            provider = ExternalProvider("vault", socket, max_receive_bytes=1 << 22)
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    yield provider
            finally:
                await provider.close()

    def call(self, of: PodInfo) -> MountCall:
        """Return the mount call for a pod, without a token from kubelet."""
        spec = class_spec(
            self.vault,
            entry("db", "secret/data/db", "password"),
            provider="vault",
            roleName="shop",
            audience=AUDIENCE,
            vaultAuthMountPath="kubernetes",
        )
        parameters = spec["parameters"]
        assert isinstance(parameters, dict)
        attributes = {
            POD_NAME: of.name,
            POD_NAMESPACE: of.namespace,
            POD_UID: of.uid,
            SERVICE_ACCOUNT: of.service_account,
        }
        return MountCall(attributes=parameters | attributes, target_path="/unused")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A cluster on which no permission to create tokens is granted yet."""
    folder = tmp_path_factory.mktemp("tokens")
    async with running_api_server(folder / "api") as api, running_server(folder / "v") as vault:
        await enable_cluster_auth(vault, api)
        await enable_kv(vault, "secret", version=2)
        await put_kv(vault, "secret/data/db", password="s3cret")
        await kubernetes_role(
            vault, "shop", "secret/data/db", namespace=NAMESPACE, account="web", audience=AUDIENCE
        )
        kubectl = api.kubectl
        await kubectl("create", "namespace", NAMESPACE)
        await kubectl("create", "serviceaccount", "web", f"--namespace={NAMESPACE}")
        namespace, _, name = KEYFERRY.partition(":")
        await kubectl("create", "serviceaccount", name, f"--namespace={namespace}")
        await kubectl(
            *("create", "clusterrole", "keyferry-pod-tokens"),
            *("--verb=create", "--resource=serviceaccounts/token"),
        )
        account = folder / "account"
        account.mkdir()
        token = await kubectl("create", "token", name, f"--namespace={namespace}")
        (account / "token").write_text(token)
        (account / "namespace").write_text(namespace)
        (account / "ca.crt").write_bytes(api.authority.certificate.read_bytes())
        yield Cluster(api, vault, account, folder)


async def test_a_pod_without_a_token_from_kubelet_reads_with_a_requested_token(
    cluster: Cluster,
) -> None:
    """The server accepts the token for the service account and the audience."""
    shop = await cluster.new_pod("made")
    mark = cluster.vault.audit.mark()
    async with cluster.token_permission(), cluster.provider() as provider:
        result = await provider.mount(cluster.call(shop))
    assert [b"s3cret"] == [file.contents for file in result.files]
    assert [""] == [login.error for login in cluster.vault.audit.logins(after=mark)]


async def test_no_token_is_issued_for_a_pod_that_does_not_exist(cluster: Cluster) -> None:
    """The token would be bound to the pod; the message names it."""
    ghost = PodInfo(NAMESPACE, "ghost", "00000000-0000-4000-8000-000000000000", "web")
    async with cluster.token_permission(), cluster.provider() as provider:
        with pytest.raises(ProviderReportedError, match="Check that pod shop/ghost"):
            await provider.mount(cluster.call(ghost))


async def test_token_is_bound_to_the_pod_for_15_minutes(cluster: Cluster) -> None:
    """Its claims, as the API server signed them."""
    shop = await cluster.new_pod("bound")
    https = HttpsClient(HttpsSettings())
    http = VaultHttp(https, TlsContexts(https, ClassFiles(UNRESTRICTED)), UNRESTRICTED)
    api = KubernetesApi(
        http,
        uncached_fetcher().transport,
        url=cluster.api.address.url,
        service_account_folder=str(cluster.account),
    )
    try:
        async with cluster.token_permission():
            claims = _claims(await ApiTokenRequester(api).request_token(shop, AUDIENCE))
    finally:
        await http.close()
        await https.close()
    assert [AUDIENCE] == claims["aud"]
    assert 900 == claims["exp"] - claims["iat"]
    assert {"name": "bound", "uid": shop.uid} == claims["kubernetes.io"]["pod"]
    assert "system:serviceaccount:shop:web" == claims["sub"]


async def test_without_the_permission_the_message_names_both_remedies(cluster: Cluster) -> None:
    """The API server refuses, and there is no login."""
    shop = await cluster.new_pod("forbidden")
    mark = cluster.vault.audit.mark()
    async with cluster.provider() as provider:
        with pytest.raises(ProviderReportedError) as refused:
            await provider.mount(cluster.call(shop))
    assert "createPodTokens: true" in str(refused.value)
    assert "add the audience to tokenRequests" in str(refused.value)
    assert [] == cluster.vault.audit.logins(after=mark)


async def test_when_disabled_the_message_says_which_audience_to_add(cluster: Cluster) -> None:
    """No token is requested, although the permission is granted."""
    shop = await cluster.new_pod("off")
    off = cluster.provider("-vault-create-pod-tokens=false")
    async with cluster.token_permission(), off as provider:
        with pytest.raises(ProviderReportedError) as refused:
            await provider.mount(cluster.call(shop))
    assert f"no service-account token for the audience '{AUDIENCE}'" in str(refused.value)
    assert f"tokenRequests: [{{audience: {AUDIENCE}}}]" in str(refused.value)


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return claims
