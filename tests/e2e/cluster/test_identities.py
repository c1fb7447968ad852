"""Authentication with the credentials of a pod, which kubelet passes on."""

from __future__ import annotations

import pytest

from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import VAULT, azure_class, pod
from tests.e2e.cluster.namespace import Namespace
from tests.e2e.cluster.side_by_side import scenario

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

SERVICE_PRINCIPAL = "22222222-0000-4000-8000-000000000001"
WORKLOAD = "22222222-0000-4000-8000-000000000002"


@scenario("service-principal")
async def test_a_pod_reads_with_the_credentials_of_its_secret(shop: Namespace) -> None:
    """`nodePublishSecretRef`; a pod with a wrong client secret fails with the reason."""
    vault = shop.installed.vault
    vault.add_app(SERVICE_PRINCIPAL, secret="the client secret")
    vault.set_secret(VAULT, "service-principal", "s3cret")
    vault.grant(VAULT, SERVICE_PRINCIPAL, "get")
    await shop.apply(
        azure_class("web", {"service-principal": "file"}, usePodIdentity="false"),
        _credentials("right", "the client secret"),
        _credentials("wrong", "the id of the client secret"),
        pod("web", "web", credentials="right"),
        pod("other", "web", credentials="wrong"),
    )
    await shop.ready("web")
    assert "s3cret" == await shop.read("web", "/mnt/web/file")
    message = await shop.says("FailedMount", "AADSTS7000215")
    assert "the id of the client secret" not in message

    await shop.apply(_credentials("wrong", "the client secret"))
    await shop.ready("other")


def _credentials(name: str, secret: str) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"secrets-store.csi.k8s.io/used": "true"}},
        "stringData": {"clientid": SERVICE_PRINCIPAL, "clientsecret": secret},
    }


@scenario("workload-identity")
async def test_a_pod_reads_as_its_service_account(shop: Namespace) -> None:
    """With the token from kubelet; another service account of the namespace is refused."""
    vault, kubectl = shop.installed.vault, shop.installed.kubectl
    issuer = shop.installed.cluster.server.address.url
    vault.data.identities.add_issuer(issuer, await kubectl("get", "--raw", "/openid/v1/jwks"))
    vault.add_app(WORKLOAD, secret=None)
    vault.federate(WORKLOAD, subject="system:serviceaccount:workload-identity:web", issuer=issuer)
    vault.set_secret(VAULT, "workload-identity", "s3cret")
    vault.grant(VAULT, WORKLOAD, "get")
    for name in ("web", "stranger"):
        await shop.kubectl("create", "serviceaccount", name)
    await shop.apply(
        azure_class("web", {"workload-identity": "file"}, clientID=WORKLOAD),
        pod("web", "web", serviceAccountName="web"),
        pod("stranger", "web", serviceAccountName="stranger"),
    )
    await shop.ready("web")
    assert "s3cret" == await shop.read("web", "/mnt/web/file")
    message = await shop.says("FailedMount", "AADSTS700213")
    assert "system:serviceaccount:workload-identity:stranger" in message
    assert "eyJ" not in message, "the message contains a token"
