"""The article's walk-through on a real cluster."""

from __future__ import annotations

import pytest

from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.installation import (
    MACHINE,
    NAMESPACE,
    VAULT,
    Installation,
    azure_class,
    pod,
)
from tests.e2e.cluster.waiting import eventually
from tests.fakes.devvault import DEFAULT_TENANT

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

CLASS = """
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: azure-kvname
spec:
  provider: azure
  secretObjects:
  - secretName: sqlserver
    type: Opaque
    data:
    - objectName: {name}
      key: dbpassword
  parameters:
    usePodIdentity: "false"
    useVMManagedIdentity: "true"
    userAssignedIdentityID: {client}
    keyvaultName: {vault}
    cloudName: ""
    cloudEnvFileName: ""
    objects: |
      array:
        - |
          objectName: db-password
          objectAlias: SECRET_1
          objectType: secret
          objectVersion: ""
    resourceGroup: shop
    subscriptionId: 22222222-0000-4000-8000-000000000001
    tenantId: {tenant}
"""

POD = """
kind: Pod
apiVersion: v1
metadata:
  name: nginx-secrets-store-inline
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: nginx
    image: {image}
    imagePullPolicy: Never
    command: [sleep, "3600"]
    env:
    - name: dbpassword
      valueFrom:
        secretKeyRef:
          name: sqlserver
          key: dbpassword
    volumeMounts:
    - name: secrets-store-inline
      mountPath: "/mnt/secrets-store"
      readOnly: true
  volumes:
  - name: secrets-store-inline
    csi:
      driver: secrets-store.csi.k8s.io
      readOnly: true
      volumeAttributes:
        secretProviderClass: "azure-kvname"
"""


@pytest.mark.parametrize("name", ["SECRET_1", "db-password"], ids=["alias", "own-name"])
async def test_the_pod_of_the_article_has_file_and_variable_at_its_first_start(
    installed: Installation, name: str
) -> None:
    """The Secret is there before the first container starts, by alias and by the object's name."""
    namespace = f"article-{name.lower().replace('_', '-')}"
    await installed.make_namespace(namespace)
    text = CLASS.format(name=name, client=MACHINE, vault=VAULT, tenant=DEFAULT_TENANT)
    await installed.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=text)
    await installed.kubectl(
        "apply", f"--namespace={namespace}", "--filename=-", stdin=POD.format(image=BUSYBOX)
    )
    await installed.ready("nginx-secrets-store-inline", namespace=namespace)

    async def inside(*command: str) -> str:
        return await installed.run_in("nginx-secrets-store-inline", *command, namespace=namespace)

    assert "s3cret" == await inside("cat", "/mnt/secrets-store/SECRET_1")
    assert "s3cret" == await inside("sh", "-c", 'printf %s "$dbpassword"')
    found = await installed.kubectl.get(
        "pod", "nginx-secrets-store-inline", f"--namespace={namespace}"
    )
    assert 0 == found["status"]["containerStatuses"][0]["restartCount"]
    events = await installed.kubectl.get("events", f"--namespace={namespace}")
    failures = [each["message"] for each in events["items"] if each["reason"].startswith("Failed")]
    assert [] == failures, "the first start needed no second try"

    status = await installed.kubectl.get(
        "secretproviderclasspodstatus",
        f"nginx-secrets-store-inline-{namespace}-azure-kvname",
        f"--namespace={namespace}",
    )
    assert ["secret/db-password"] == [each["id"] for each in status["status"]["objects"]]
    await installed.kubectl("delete", "namespace", namespace, "--wait=false")


async def test_the_volume_goes_with_its_pod(installed: Installation) -> None:
    """Nothing stays mounted, and no error is logged for it."""
    await installed.make_namespace("leaving")
    await installed.kubectl.apply(
        azure_class("leaving", "web", {"db-password": "db"}), pod("leaving", "web", "web")
    )
    await installed.ready("web", namespace="leaving")
    uid = (await installed.kubectl.get("pod", "web", "--namespace=leaving"))["metadata"]["uid"]
    await installed.kubectl("delete", "pod", "web", "--namespace=leaving", "--timeout=50s")
    folder = installed.cluster.kubelet_root / "pods" / uid

    async def gone() -> bool | None:
        return None if folder.exists() else True

    assert await eventually(gone, f"{folder} to go")
    assert "failed to clean and unmount target path" not in await installed.driver_log()


async def test_the_driver_says_that_it_is_ready(installed: Installation) -> None:
    """Kubelet registered it: the node knows the driver, and the pod is ready by /readyz."""
    node = await installed.kubectl.get("csinode", installed.cluster.node)
    assert ["secrets-store.csi.k8s.io"] == [each["name"] for each in node["spec"]["drivers"]]
    ready = await installed.driver_pod()
    assert 1 == len(ready["spec"]["containers"]), "one container a node"
    assert "registered with kubelet" in await installed.driver_log()
    assert NAMESPACE == ready["metadata"]["namespace"]
