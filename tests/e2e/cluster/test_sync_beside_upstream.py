"""The SecretSync controller on a cluster whose CSI driver is that of upstream.

The driver is a process on the node, registered with kubelet; its image cannot be pulled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio
import yaml

from keyferry.driver.registration import Registration, serving_registration
from keyferry.telemetry.metrics import Metrics
from tests.compat.upstream import built_upstream
from tests.e2e.children import ending_children
from tests.e2e.cluster.api_server import free_ports
from tests.e2e.cluster.external_provider import NAME, running_e2e_provider
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import CSI_DRIVER, pod, secret_object, secret_provider_class
from tests.e2e.cluster.sync_installation import (
    SHOP,
    Installed,
    running_sync_installation,
    secret_sync,
)
from tests.e2e.cluster.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

CSI_DRIVER_OBJECT: Document = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "CSIDriver",
    "metadata": {"name": CSI_DRIVER},
    "spec": {
        "attachRequired": False,
        "podInfoOnMount": True,
        "volumeLifecycleModes": ["Ephemeral"],
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def beside() -> AsyncIterator[Installed]:
    """A cluster with the controller of Keyferry and the driver of upstream."""
    program = built_upstream().driver
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="keyferry-")))
        installed = await stack.enter_async_context(running_sync_installation(folder))
        cluster = installed.cluster
        sockets = folder / "providers"
        plugin = cluster.kubelet_root / "plugins" / "csi-secrets-store"
        for path in (sockets, plugin):
            path.mkdir(parents=True)
        await stack.enter_async_context(running_e2e_provider(sockets))
        children = await stack.enter_async_context(ending_children(folder / "upstream"))
        children.start(
            "upstream-driver",
            program,
            f"--endpoint=unix://{plugin / 'csi.sock'}",
            f"--nodeid={cluster.node}",
            f"--provider-volume={sockets}",
            "--additional-provider-volume-paths=",
            f"--metrics-addr=127.0.0.1:{free_ports(1)[0]}",
            f"--kubeconfig={cluster.kubeconfig}",
        )
        await cluster.kubectl.apply(CSI_DRIVER_OBJECT)
        registration = Registration(
            cluster.kubelet_root / "plugins_registry",
            driver_name=CSI_DRIVER,
            csi_socket=str(plugin / "csi.sock"),
            metrics=Metrics(),
        )
        await stack.enter_async_context(serving_registration(registration))
        synced = [secret_object("from-driver", {"key": "foo"})]
        parameters = {"objects": yaml.safe_dump({"array": [yaml.safe_dump({"objectName": "foo"})]})}
        spc = secret_provider_class("by-driver", NAME, parameters, synced)
        await installed.kubectl.apply(spc, pod("app", "by-driver"), namespace=SHOP)
        await installed.kubectl(
            *("wait", "--for=condition=Ready", "pod/app", f"--namespace={SHOP}", "--timeout=180s")
        )
        yield installed


async def _secret_of_driver(beside: Installed) -> Document:
    """Wait for the Secret and its owner, which upstream adds after the pod is ready."""
    for state in ("create", "jsonpath={.metadata.ownerReferences[0].uid}"):
        await beside.kubectl(
            "wait", f"--for={state}", "secret/from-driver", f"--namespace={SHOP}", "--timeout=60s"
        )
    return await beside.secret("from-driver")


async def test_both_work_and_neither_touches_the_secrets_of_the_other(beside: Installed) -> None:
    """Their Secrets have other labels, owners and field managers."""
    await beside.kubectl.apply(secret_sync("web"), namespace=SHOP)
    await beside.ready("web")
    of_driver, synced = await _secret_of_driver(beside), await beside.secret("web")
    assert {"secrets-store.csi.k8s.io/managed": "true"} == of_driver["metadata"]["labels"]
    assert {"secrets-store.sync.x-k8s.io": ""} == synced["metadata"]["labels"]
    await beside.kubectl("delete", "pod", "app", f"--namespace={SHOP}")
    await beside.kubectl(
        "wait", "--for=delete", "secret/from-driver", f"--namespace={SHOP}", "--timeout=120s"
    )
    assert synced == await beside.secret("web")
    await beside.kubectl.apply(pod("app", "by-driver"), namespace=SHOP)
    await beside.kubectl(
        *("wait", "--for=condition=Ready", "pod/app", f"--namespace={SHOP}", "--timeout=180s")
    )


async def test_a_secret_of_the_driver_is_not_taken(beside: Installed) -> None:
    """Both objects say so; the Secret stays as the driver wrote it."""
    before = await _secret_of_driver(beside)
    await beside.kubectl.apply(secret_sync("from-driver"), namespace=SHOP)
    await beside.condition("from-driver", SHOP, "belongs to SecretProviderClass shop/by-driver")
    assert before == await beside.secret("from-driver")

    async def both_say_so() -> bool:
        events = await beside.kubectl.get("events", f"--namespace={SHOP}")
        about = {
            each["involvedObject"]["kind"]
            for each in events["items"]
            if each["reason"] == "SecretClaimed"
        }
        assert {"SecretSync", "SecretProviderClass"} == about
        return True

    await eventually(both_say_so, "events about both objects")
