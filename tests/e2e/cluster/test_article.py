"""The walk-through of the article on a real cluster."""

from __future__ import annotations

import pytest

from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.installation import NAMESPACE, Installation
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import MACHINE, VAULT
from tests.e2e.cluster.namespace import but_api_access, new_namespace
from tests.e2e.cluster.waiting import eventually
from tests.fakes.devvault import DEFAULT_TENANT

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

NAME = "nginx-secrets-store-inline"

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
    """The Secret exists before the first container starts, by alias and by object name."""
    async with new_namespace(installed, f"article-{name.lower().replace('_', '-')}") as shop:
        text = CLASS.format(name=name, client=MACHINE, vault=VAULT, tenant=DEFAULT_TENANT)
        await shop.kubectl("apply", "--filename=-", stdin=text)
        await shop.kubectl("apply", "--filename=-", stdin=POD.format(image=BUSYBOX))
        await shop.ready(NAME)

        assert "s3cret" == await shop.read(NAME, "/mnt/secrets-store/SECRET_1")
        assert "s3cret" == await shop.run(NAME, "sh", "-c", 'printf %s "$dbpassword"')
        found = await shop.get("pod", NAME)
        assert 0 == found["status"]["containerStatuses"][0]["restartCount"]
        events = (await shop.get("events"))["items"]
        failures = [each["message"] for each in events if each["reason"].startswith("Failed")]
        assert [] == but_api_access(failures), "the first start needed a retry"
        assert {"secret/db-password"} == set(await shop.versions(NAME, "azure-kvname"))


async def test_driver_is_registered_and_ready(installed: Installation) -> None:
    """The CSINode object lists the driver, and the pod is ready according to /readyz."""
    node = await installed.kubectl.get("csinode", installed.cluster.node)
    assert ["secrets-store.csi.k8s.io"] == [each["name"] for each in node["spec"]["drivers"]]
    ready = await installed.driver_pod()
    assert 1 == len(ready["spec"]["containers"]), "one container per node"
    assert "registered with kubelet" in await installed.driver_log()
    assert NAMESPACE == ready["metadata"]["namespace"]


async def test_healthy_driver_reports_no_problem(installed: Installation) -> None:
    """No warning in its log and no event about its pod, after the first Secrets of namespaces.

    But for the development vault, and for the fields of the article that have no effect.
    """
    log = await installed.driver_log()
    problems = [line for line in log.splitlines() if line[:1] in "WE"]
    expected = ("DEVELOPMENT", "fields without effect")
    assert [] == [line for line in problems if not any(text in line for text in expected)]
    found = await installed.kubectl.get(
        "events", f"--namespace={NAMESPACE}", "--field-selector=type=Warning"
    )
    about = [each for each in found["items"] if each["involvedObject"]["name"].startswith("keyf")]
    pod = await installed.driver_pod()
    # The cluster has no DNS server.
    assert [] == [
        each["message"]
        for each in about
        if each["reason"] != "MissingClusterDNS" and not _says_that_it_starts(each, pod)
    ]


def _says_that_it_starts(event: Document, pod: Document) -> bool:
    """Return whether a pod was not ready yet, in its first start, when an event was recorded."""
    (container,) = pod["status"]["containerStatuses"]
    ready_at = [
        each["lastTransitionTime"]
        for each in pod["status"]["conditions"]
        if (each["type"], each["status"]) == ("Ready", "True")
    ]
    return (
        event["reason"] == "Unhealthy"
        and event["message"].startswith("Readiness probe failed")
        and event["involvedObject"]["uid"] == pod["metadata"]["uid"]
        and container["restartCount"] == 0
        and any(event["lastTimestamp"] <= each for each in ready_at)
    )


async def test_columns_of_kubectl_get(installed: Installation) -> None:
    """The short names are known, and a refreshed volume says so."""
    async with new_namespace(installed, "columns") as shop:
        text = CLASS.format(name="db-password", client=MACHINE, vault=VAULT, tenant=DEFAULT_TENANT)
        await shop.kubectl("apply", "--filename=-", stdin=text)
        await shop.kubectl("apply", "--filename=-", stdin=POD.format(image=BUSYBOX))
        await shop.ready(NAME)
        classes = (await shop.kubectl("get", "spc", "--no-headers")).split()
        assert ["azure-kvname", "azure"] == classes[:2]

        async def refreshed() -> bool | None:
            row = (await shop.kubectl("get", "spcps", "--no-headers")).split()
            assert [NAME, "azure-kvname"] == row[1:3]
            return row[3] == "True" or None

        await eventually(refreshed, "the first refresh")
