"""Upstream's end-to-end tests with an external provider (docs/reference/compatibility.md).

The item numbers are those of that page. Every call must contain a token for each audience of the
CSIDriver object, otherwise the provider rejects it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT_TOKENS
from tests.e2e.cluster.external_provider import KEY, NAME
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import (
    CLASS_API,
    deployment,
    pod,
    secret_object,
    secret_provider_class,
)
from tests.e2e.cluster.namespace import Namespace, new_namespace
from tests.e2e.cluster.side_by_side import scenario
from tests.e2e.cluster.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

GROUP = "secrets-store.csi.x-k8s.io"
ENV = "SECRET_USERNAME"


def external_class(name: str, *objects: str, secret: str = "", api: str = CLASS_API) -> Document:
    """Return a SecretProviderClass; the Secret `secret` gets the key `username` from `foo`."""
    entries = "".join(f"  - 'objectName: {each}'\n" for each in objects or ("foo", "fookey"))
    synced = [secret_object(secret, {"username": "foo"})] if secret else []
    return secret_provider_class(name, NAME, {"objects": f"array:\n{entries}"}, synced, api=api)


@scenario("installed")
async def test_crds_and_roles_of_upstream_are_installed(shop: Namespace) -> None:
    """Items 1 to 3: both CRDs are served, and the roles have upstream's names."""
    for crd in ("secretproviderclasses", "secretproviderclasspodstatuses"):
        await shop.wait("condition=Established", f"crd/{crd}.{GROUP}")
    roles = (await shop.kubectl("get", "clusterroles", "--output=name")).split()
    assert {
        f"clusterrole.rbac.authorization.k8s.io/{name}"
        for name in (
            "secretproviderclasses-role",
            "secretproviderclasses-admin-role",
            "secretproviderclasses-viewer-role",
            "secretproviderclasspodstatuses-viewer-role",
            "secretprovidersyncing-role",
        )
    } <= set(roles)
    for name in ("secretproviderclasses-rolebinding", "secretprovidersyncing-rolebinding"):
        await shop.kubectl("get", "clusterrolebinding", name)


@scenario("test-v1alpha1")
async def test_a_v1alpha1_secret_provider_class_is_mounted(shop: Namespace) -> None:
    """Items 4 to 8, 13: the API version `v1alpha1`."""
    await _is_mounted(shop, api=f"{GROUP}/v1alpha1")


@scenario("test-v1")
async def test_files_of_an_external_provider_are_mounted(shop: Namespace) -> None:
    """Items 9 to 13: the content is exact, and the volume is removed with its pod."""
    await _is_mounted(shop, api=CLASS_API)


async def _is_mounted(shop: Namespace, *, api: str) -> None:
    await shop.apply(external_class("web", api=api))
    assert NAME == (await shop.get("secretproviderclass", "web"))["spec"]["provider"]
    await shop.apply(pod("web", "web"))
    await shop.ready("web")
    assert "secret" == await shop.read("web", "/mnt/web/foo")
    assert KEY == await shop.read("web", "/mnt/web/fookey")
    uid = (await shop.get("pod", "web"))["metadata"]["uid"]
    await shop.delete("pod", "web")
    await shop.volumes_removed(uid, folder_too=True)
    assert "failed to clean and unmount target path" not in await shop.installed.driver_log()


@scenario("test-ns")
async def test_secret_provider_class_is_read_from_the_namespace_of_the_pod(shop: Namespace) -> None:
    """Items 17 to 19: one with the same name in another namespace has an unknown provider."""
    async with new_namespace(shop.installed, "test-ns-other") as other:
        await other.apply(secret_provider_class("web", "invalidprovider", {"objects": ""}))
        await shop.apply(
            external_class("web", secret="foosecret"),
            deployment("web", "web", replicas=2, env={ENV: ("foosecret", "username")}),
        )
        await shop.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        assert {"username": "secret"} == await shop.secret_data("foosecret")
        variable = await shop.run("deployment/web", "sh", "-c", f'printf %s "${ENV}"')
        assert "secret" == variable
        await shop.delete("deployment", "web")
        await shop.secret_removed("foosecret")


@scenario("negative-test-ns")
async def test_a_missing_secret_provider_class_is_reported(shop: Namespace) -> None:
    """Item 20: the event names it."""
    await shop.apply(pod("web", "e2e-provider-sync"))
    message = await shop.says(
        "FailedMount", "failed to get secretproviderclass negative-test-ns/e2e-provider-sync"
    )
    assert "not found" in message


@scenario("multi-spc")
async def test_a_pod_has_two_volumes_and_two_secrets(shop: Namespace) -> None:
    """Items 21 to 23: each Secret has one owner; for a bare pod, this is its pod status."""
    names = (0, 1)
    env = {f"{ENV}_{number}": (f"foosecret-{number}", "username") for number in names}
    await shop.apply(
        *(external_class(f"web-{number}", secret=f"foosecret-{number}") for number in names),
        pod("web", "web-0", "web-1", env=env),
    )
    await shop.ready("web")
    for number in names:
        assert "secret" == await shop.read("web", f"/mnt/web-{number}/foo")
        assert KEY == await shop.read("web", f"/mnt/web-{number}/fookey")
        assert {"username": "secret"} == await shop.secret_data(f"foosecret-{number}")
        status = f"web-multi-spc-web-{number}"
        assert [("SecretProviderClassPodStatus", status)] == await shop.owners(
            f"foosecret-{number}"
        )
        variable = await shop.run("web", "sh", "-c", f'printf %s "${ENV}_{number}"')
        assert "secret" == variable


@scenario("test-rotation")
async def test_rotation_with_an_external_provider(shop: Namespace) -> None:
    """Items 4, 24 and 25: file and Secret; the calls of a refresh also have tokens."""
    provider = shop.installed.provider
    await shop.apply(external_class("web", "foo", secret="rotationsecret"), pod("web", "web"))
    await shop.ready("web")
    assert {"username": "secret"} == await shop.secret_data("rotationsecret")
    assert {"secret/foo": "v1"} == await shop.versions("web", "web")
    provider.rotated.add(shop.name)
    await shop.reads("web", "/mnt/web/foo", "rotated")
    await shop.secret_has("rotationsecret", {"username": "rotated"})
    assert provider.calls[shop.name] > 1


@scenario("test-credentials")
async def test_credentials_of_a_pod_are_sent_to_its_provider(shop: Namespace) -> None:
    """Item 34: the data of its `nodePublishSecretRef`, and nothing for a pod without one.

    From Kubernetes 1.35 on, kubelet adds the service account tokens, as it does for upstream.
    """
    provider = shop.installed.provider
    await shop.apply(external_class("web", "foo"), pod("plain", "web"))
    await shop.ready("plain")
    assert {SERVICE_ACCOUNT_TOKENS} == set(provider.credentials[shop.name] or {})
    await shop.delete("pod", "plain")
    await shop.kubectl("create", "secret", "generic", "login", "--from-literal=accessId=p-1")
    await shop.kubectl("label", "secret", "login", "secrets-store.csi.k8s.io/used=true")
    await shop.apply(pod("web", "web", credentials="login"))
    await shop.ready("web")
    sent = dict(provider.credentials[shop.name] or {})
    assert sent.pop(SERVICE_ACCOUNT_TOKENS)
    assert {"accessId": "p-1"} == sent


@scenario("nested")
async def test_a_nested_file_is_synced_to_a_key(shop: Namespace) -> None:
    """Items 28 and 29: a path, several keys, and a copied annotation."""
    annotations = {"kubed.appscode.com/sync": "app=test"}
    data = {"pwd": "foo", "nested": "nested/fookey"}
    synced = secret_object("foosecret", data, annotations=annotations)
    document = external_class("web", "foo", "nested/fookey")
    document["spec"]["secretObjects"] = [synced]
    await shop.apply(document, pod("web", "web"))
    await shop.ready("web")
    assert KEY == await shop.read("web", "/mnt/web/nested/fookey")
    assert {"pwd": "secret", "nested": KEY} == await shop.secret_data("foosecret")
    copied = (await shop.get("secret", "foosecret"))["metadata"]["annotations"]
    assert annotations.items() <= copied.items()


@scenario("metrics")
async def test_metrics_can_be_scraped_from_another_pod(shop: Namespace) -> None:
    """Item 26: upstream's names, with the labels of the provider."""
    await shop.apply(
        external_class("web", "foo"), pod("web", "web"), pod("deleted", "web"), pod("reader")
    )
    await shop.ready("web", "deleted", "reader")
    await shop.delete("pod", "deleted")
    labels = f'os_type="linux",provider="{NAME}"'
    expected = {
        "node_publish_total": f"{{{labels}}}",
        "node_unpublish_total": '{os_type="linux"}',
        "rotation_reconcile_total": f'{{{labels},rotated="false"}}',
    }

    async def present() -> bool | None:
        actual = _by_name(await _metrics(shop))
        missing = [name for name, series in expected.items() if series not in actual.get(name, ())]
        assert [] == missing, f"missing: {missing}"
        return True

    await eventually(present, "the metrics", pause=1.0)


async def _metrics(shop: Namespace) -> str:
    address = shop.installed.cluster.network.node
    return await shop.run("reader", "wget", "-q", "-O", "-", f"http://{address}:8095/metrics")


def _by_name(text: str) -> Mapping[str, set[str]]:
    """Return the label sets of each metric."""
    series: dict[str, set[str]] = {}
    for line in text.splitlines():
        name, brace, rest = line.rpartition(" ")[0].partition("{")
        if not line.startswith("#"):
            series.setdefault(name, set()).add(f"{brace}{rest}")
    return series
