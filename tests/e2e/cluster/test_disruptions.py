"""Disruptions of a driver on a cluster: crashes, restarts, outages, upgrades and the uninstall.

The tests run in this order, because each disrupts the whole cluster. The last one uninstalls.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from tests.e2e.cluster.installation import DRIVER, NAMESPACE, Installation
from tests.e2e.cluster.keyferry_image import KEYFERRY
from tests.e2e.cluster.manifests import (
    CSI_DRIVER,
    MACHINE,
    VAULT,
    azure_class,
    deployment,
    pod,
    secret_object,
)
from tests.e2e.cluster.namespace import Namespace, new_namespace
from tests.e2e.cluster.waiting import eventually
from tests.fakes.devvault import CloseMidResponse
from tests.fakes.mounts import mounted_below

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(400)]

STARTS = 30
"""Pods that start while the driver is killed."""


@pytest.fixture(autouse=True)
def stopwatch(show: Callable[[str], None]) -> Iterator[None]:
    """Print the duration of each scenario."""
    start = time.monotonic()
    yield
    show(f"{time.monotonic() - start:.1f} s")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lasting(installed: Installation) -> AsyncIterator[Namespace]:
    """A pod `lasting` with a file and a Secret, which runs during all disruptions."""
    installed.vault.set_secret(VAULT, "lasting", "at first")
    async with new_namespace(installed, "lasting") as shop:
        synced = [secret_object("lasting", {"value": "file"})]
        await shop.apply(
            azure_class("web", {"lasting": "file"}, secret_objects=synced), pod("lasting", "web")
        )
        await shop.ready("lasting")
        yield shop


async def is_served(shop: Namespace, when: str) -> None:
    """Assert that the lasting pod gets a new version without a restart, and a new pod starts."""
    value, further = f"after the {when}", f"after-{when}"
    shop.installed.vault.set_secret(VAULT, "lasting", value)
    await shop.reads("lasting", "/mnt/web/file", value)
    await shop.secret_has("lasting", {"value": value})
    await shop.apply(pod(further, "web"))
    await shop.ready(further)
    assert value == await shop.read(further, "/mnt/web/file")
    (container,) = (await shop.get("pod", "lasting"))["status"]["containerStatuses"]
    assert 0 == container["restartCount"]


async def test_pods_start_although_the_driver_is_killed(
    lasting: Namespace, installed: Installation
) -> None:
    """SIGKILL during 30 pod starts: all pods start, each with its own file."""
    await lasting.apply(
        azure_class("many", {"db-password": "file"}),
        deployment("many", "many", replicas=STARTS),
    )

    async def some_run() -> bool | None:
        phases = [each["status"]["phase"] for each in await lasting.pods("many")]
        return phases.count("Running") >= STARTS / 10 or None

    await eventually(some_run, "the first pods to run")
    killed = installed.driver_process()
    os.kill(killed, signal.SIGKILL)
    await lasting.kubectl("rollout", "status", "deployment/many", "--timeout=170s")
    pods = await lasting.pods("many")
    assert STARTS == len(pods)
    for each in pods:
        assert "s3cret" == await lasting.read(each["metadata"]["name"], "/mnt/many/file")
    assert killed != installed.driver_process()
    await installed.driver_is_ready()
    await is_served(lasting, "kill")


async def test_driver_and_pods_survive_a_kubelet_restart(
    lasting: Namespace, installed: Installation
) -> None:
    """The driver is registered with the new kubelet, and pods keep running."""
    await installed.cluster.kubelet.stop()
    installed.cluster.kubelet.start()

    async def reachable() -> bool | None:
        return (await lasting.run("lasting", "echo", "here")) == "here\n" or None

    await eventually(reachable, "kubelet to reach its pods again")
    await is_served(lasting, "restart")
    node = await installed.kubectl.get("csinode", installed.cluster.node)
    assert [CSI_DRIVER] == [each["name"] for each in node["spec"]["drivers"]]


async def test_volumes_are_served_during_an_api_server_outage(
    lasting: Namespace, installed: Installation
) -> None:
    """Files still get new versions, and a pod that waits for its vault is mounted.

    The driver has its SecretProviderClass in the cache. It updates API objects after the outage.
    """
    vault, host = installed.vault, "outage.vault.azure.net"
    vault.set_secret("outage", "file", "s3cret")
    vault.grant("outage", MACHINE, "get")
    vault.add_fault(host, CloseMidResponse(), times=None)
    waiting = pod("waiting", "late", automountServiceAccountToken=False)
    await lasting.apply(azure_class("late", {"file": ""}, vault="outage"), waiting)
    await lasting.says("FailedMount", host)
    late = (await lasting.get("pod", "waiting"))["metadata"]["uid"]
    early = (await lasting.get("pod", "lasting"))["metadata"]["uid"]
    start = time.monotonic()
    await installed.cluster.server.stop()
    try:
        vault.set_secret(VAULT, "lasting", "during the outage")
        await _file_on_node(installed, early, "web", "file", "during the outage")
        vault.clear_faults(host)
        await _file_on_node(installed, late, "late", "file", "s3cret")
        await asyncio.sleep(max(0.0, 60 - (time.monotonic() - start)))
    finally:
        vault.clear_faults(host)
        await installed.cluster.server.start()
    await lasting.ready("waiting")

    async def recorded() -> bool | None:
        return set(await lasting.versions("waiting", "late")) == {"secret/file"} or None

    await eventually(recorded, "the pod status of the outage")
    await lasting.secret_has("lasting", {"value": "during the outage"})
    await is_served(lasting, "outage")


async def _file_on_node(
    installed: Installation, uid: str, volume: str, name: str, content: str
) -> None:
    """Wait for the content of a file on the node, because kubectl has no API server."""
    volumes = installed.cluster.kubelet_root / "pods" / uid / "volumes" / "kubernetes.io~csi"
    path = volumes / volume / "mount" / name

    async def has() -> bool | None:
        return (path.exists() and path.read_text() == content) or None

    await eventually(has, f"{path} to have {content!r}")


async def test_driver_is_upgraded_while_pods_run(
    lasting: Namespace, installed: Installation
) -> None:
    """`helm upgrade` with another image and other values; old and new pods are served."""
    repository = KEYFERRY.partition(":")[0]
    await installed.cluster.containerd.ctr("images", "tag", KEYFERRY, f"{repository}:2")
    before = (await installed.driver_pod())["metadata"]["name"]
    linux = installed.values["linux"]
    assert isinstance(linux, dict)
    newer = linux | {"image": linux["image"] | {"tag": "2"}}
    await installed.install(linux=newer, logFormatJSON=True)
    after = await installed.driver_pod()
    assert before != after["metadata"]["name"]
    assert f"{repository}:2" == after["spec"]["containers"][0]["image"]
    await is_served(lasting, "upgrade")


async def test_files_of_running_pods_remain_after_an_uninstall(
    lasting: Namespace, installed: Installation
) -> None:
    """SecretProviderClasses, Secrets and files remain, and a new driver manages them."""
    notes = await installed.helm("get", "notes", "keyferry")
    note = "Secrets and the files of running pods remain after an uninstall"
    assert note in " ".join(notes.split())
    uid = (await lasting.get("pod", "lasting"))["metadata"]["uid"]
    value = await lasting.read("lasting", "/mnt/web/file")
    await installed.helm("uninstall", "keyferry")
    await installed.kubectl(
        "wait", "--for=delete", "pod", f"--selector={DRIVER}", f"--namespace={NAMESPACE}",
        "--timeout=120s",
    )  # fmt: skip
    assert value == await lasting.read("lasting", "/mnt/web/file")
    assert {"value": value} == await lasting.secret_data("lasting")
    assert "web" == (await lasting.get("secretproviderclass", "web"))["metadata"]["name"]
    assert {"secret/lasting"} == set(await lasting.versions("lasting", "web"))
    await lasting.kubectl("delete", "pod", "lasting", "--wait=false")
    with pytest.raises(AssertionError, match="timed out"):
        await lasting.kubectl("wait", "--for=delete", "pod/lasting", "--timeout=5s")
    assert [each for each in mounted_below(installed.cluster.kubelet_root) if uid in each]
    await installed.install()
    await lasting.kubectl("wait", "--for=delete", "pod/lasting", "--timeout=120s")
    await lasting.volumes_removed(uid, folder_too=True)
