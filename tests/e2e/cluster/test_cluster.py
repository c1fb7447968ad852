"""The cluster itself, without Keyferry."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.e2e.cluster.cluster import Cluster, running_cluster
from tests.e2e.cluster.images import BUSYBOX
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.namespace import but_api_access
from tests.e2e.cluster.network import kept_networks
from tests.e2e.cluster.waiting import eventually
from tests.fakes.mounts import mount_options, mounted_below

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

AUDIENCE = "api://AzureADTokenExchange"

_LOG_LINKS = Path("/var/log/containers")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """One cluster for all tests of this module; each test has its own pods."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        async with running_cluster(Path(folder)) as running:
            yield running


async def test_the_node_is_ready(cluster: Cluster) -> None:
    """There is one ready node, and kubelet has the version that was built."""
    nodes = (await cluster.kubectl.get("nodes"))["items"]
    assert [cluster.node] == [node["metadata"]["name"] for node in nodes]
    assert {"Ready": "True"}.items() <= _conditions(nodes[0]).items()
    version = nodes[0]["status"]["nodeInfo"]["kubeletVersion"]
    assert f"kubernetes-{version}" == cluster.programs.kubernetes.name


async def test_a_pod_on_the_network_of_the_host_runs(cluster: Cluster) -> None:
    """The locally built image runs, and kubelet serves its logs."""
    await cluster.kubectl.apply(_pod("host", "echo from the pod; sleep 3600", hostNetwork=True))
    await _wait_for_ready(cluster, "host")

    async def logged() -> bool:
        assert "from the pod\n" == await cluster.kubectl("logs", "host")
        return True

    await eventually(logged, "the log of the pod")


async def test_a_pod_on_the_pod_network_reaches_the_api_server(cluster: Cluster) -> None:
    """A client in a pod uses the address in its environment and its CA file."""
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    await cluster.kubectl.apply(_pod("inside", "sleep 3600"))
    await _wait_for_ready(cluster, "inside")
    shell = (
        f"nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null; cat {folder}/ca.crt"
    )
    output = await cluster.kubectl("exec", "inside", "--", "sh", "-ec", shell)
    assert cluster.ca.read_text() == output


async def test_volume_of_an_unknown_driver_is_reported_in_an_event(cluster: Cluster) -> None:
    """Kubelet names the missing CSI driver."""
    volume = {
        "name": "secrets",
        "csi": {"driver": "nobody.example.com", "readOnly": True},
    }
    await cluster.kubectl.apply(_pod("volume", "sleep 3600", volumes=[volume]))

    async def failed_mount() -> str | None:
        fields = "involvedObject.name=volume,reason=FailedMount"
        events = (await cluster.kubectl.get("events", "--field-selector", fields))["items"]
        messages = but_api_access(str(each["message"]) for each in events)
        return messages[0] if messages else None

    message = await eventually(failed_mount, "an event FailedMount")
    assert (
        "driver name nobody.example.com not found in the list of registered CSI drivers" in message
    )


async def test_a_token_of_a_service_account_verifies_against_the_keys_of_the_issuer(
    cluster: Cluster,
) -> None:
    """Workload identity requires the issuer, audience, subject and a published key."""
    token = await cluster.kubectl("create", "token", "default", "--audience", AUDIENCE)
    discovery = json.loads(
        await cluster.kubectl("get", "--raw", "/.well-known/openid-configuration")
    )
    keys = json.loads(await cluster.kubectl("get", "--raw", "/openid/v1/jwks"))["keys"]
    claims = _verified(token.strip(), keys)
    assert (discovery["issuer"], [AUDIENCE], "system:serviceaccount:default:default") == (
        claims["iss"],
        claims["aud"],
        claims["sub"],
    )
    assert cluster.server.address.url == claims["iss"]


async def test_the_api_server_comes_back_with_its_data(cluster: Cluster) -> None:
    """Pods keep running while the API server is unavailable."""
    await cluster.kubectl.apply(_pod("lasting", "sleep 3600"))
    await _wait_for_ready(cluster, "lasting")
    before = await cluster.kubectl.get("pod", "lasting")
    await cluster.server.stop()
    with pytest.raises(AssertionError, match="refused"):
        await cluster.kubectl.get("pod", "lasting")
    await cluster.server.start()
    after = await cluster.kubectl.get("pod", "lasting")
    assert before["status"]["containerStatuses"] == after["status"]["containerStatuses"]


async def test_pods_keep_running_during_a_kubelet_restart(cluster: Cluster) -> None:
    """A new kubelet adopts the running containers, and starts additional ones."""
    await cluster.kubectl.apply(_pod("staying", "sleep 3600"))
    await _wait_for_ready(cluster, "staying")
    before = await cluster.kubectl.get("pod", "staying")
    await cluster.kubelet.stop()
    cluster.kubelet.start()
    await cluster.kubectl.apply(_pod("further", "sleep 3600"))
    await _wait_for_ready(cluster, "further")
    after = await cluster.kubectl.get("pod", "staying")
    assert _container_ids(before) == _container_ids(after)


async def test_a_deleted_pod_is_removed_with_its_volumes(cluster: Cluster) -> None:
    """Kubelet stops the containers of a pod and removes its volumes."""
    await cluster.kubectl.apply(_pod("leaving", "sleep 3600"))
    await _wait_for_ready(cluster, "leaving")
    uid = (await cluster.kubectl.get("pod", "leaving"))["metadata"]["uid"]
    folder = cluster.kubelet_root / "pods" / uid
    assert folder.is_dir()
    await cluster.kubectl("delete", "pod", "leaving", "--wait", "--timeout=120s")

    async def removed() -> bool | None:
        return None if folder.exists() else True

    assert await eventually(removed, f"{folder} to be removed")


async def test_a_mount_made_in_a_container_reaches_the_node(cluster: Cluster) -> None:
    """A driver in a pod mounts volumes of other pods below the root folder of kubelet."""
    folder = cluster.kubelet_root / "shared"
    host = {"name": "host", "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"}}
    pod = _pod("mounting", "mount -t tmpfs fromthepod /mnt/host && sleep 3600", volumes=[host])
    (container,) = pod["spec"]["containers"]
    container["securityContext"] = {"privileged": True}
    container["volumeMounts"][0] |= {"mountPropagation": "Bidirectional"}
    await cluster.kubectl.apply(pod)
    await _wait_for_ready(cluster, "mounting")

    async def seen() -> tuple[str, str] | None:
        mounted = str(folder) in mounted_below(cluster.kubelet_root)
        return mount_options(folder)[1:] if mounted else None

    assert ("tmpfs", "fromthepod") == await eventually(seen, "the mount")


async def test_a_failure_leaves_nothing_behind(cluster: Cluster) -> None:
    """A second cluster fails while a pod runs: only its own resources are removed."""
    with TemporaryDirectory(prefix="keyferry-") as folder:
        with pytest.raises(_TestFailedError) as failure:
            await _fail_with_a_pod_running(Path(folder))
        second = failure.value.cluster
        assert cluster.network != second.network
        assert set() == _processes(second)
        assert [] == mounted_below(Path(folder))
        assert [] == _control_groups(second)
        await eventually(lambda: _no_address(second), "the kernel to let the wires of pods go")
        assert [] == [link for link in _LOG_LINKS.glob("orphan*") if folder in str(link.readlink())]
        assert [] == kept_networks(Path(folder))
    await cluster.kubectl("get", "--raw", "/readyz")


class _TestFailedError(Exception):
    """A test failed while this cluster ran."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__("a test failed")
        self.cluster = cluster


async def _fail_with_a_pod_running(folder: Path) -> None:
    async with running_cluster(folder) as cluster:
        await cluster.kubectl.apply(_pod("orphan", "sleep 3600"))
        await _wait_for_ready(cluster, "orphan")

        async def all_run() -> bool:
            assert {"kubelet", "containerd", "etcd", "sleep"} <= _processes(cluster)
            return True

        await eventually(all_run, "the processes of the cluster and the pod")
        assert _control_groups(cluster)
        assert kept_networks(folder)
        assert 3 == len(_addresses(cluster)), (
            "addresses of the API server, the node and the link of the pod"
        )
        raise _TestFailedError(cluster)


async def _no_address(cluster: Cluster) -> bool:
    assert set() == await asyncio.to_thread(_addresses, cluster)
    return True


def _addresses(cluster: Cluster) -> set[str]:
    """Return the addresses of this machine that belong to a cluster."""
    run = subprocess.run(["ip", "address"], capture_output=True, text=True, check=True)
    found = set(re.findall(r"inet ([0-9.]+)", run.stdout))
    ranges = [f"10.{second}.{cluster.network.number}." for second in (96, 97, 98)]
    return {address for address in found if any(address.startswith(each) for each in ranges)}


def _control_groups(cluster: Cluster) -> list[Path]:
    """Return the groups of a cluster at the root of each hierarchy."""
    root, name = Path("/sys/fs/cgroup"), cluster.control_group
    return [*root.glob(name), *root.glob(f"*/{name}")]


def _processes(cluster: Cluster) -> set[str]:
    """Return the names of the processes of a cluster, by argument or control group."""
    marks = (str(cluster.kubelet_root.parent), f"{cluster.control_group}/")
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            about = (process / "cmdline").read_text() + (process / "cgroup").read_text()
            if any(mark in about for mark in marks):
                found.add((process / "comm").read_text().strip())
    return found


def _pod(name: str, command: str, **spec: object) -> Document:
    volumes = spec.get("volumes", [])
    assert isinstance(volumes, list)
    mounts = [{"name": each["name"], "mountPath": f"/mnt/{each['name']}"} for each in volumes]
    container = {
        "name": "main",
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", command],
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


async def _wait_for_ready(cluster: Cluster, pod: str) -> None:
    await cluster.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=120s")


def _conditions(node: Document) -> dict[str, str]:
    return {each["type"]: each["status"] for each in node["status"]["conditions"]}


def _container_ids(pod: Document) -> list[str]:
    return [each["containerID"] for each in pod["status"]["containerStatuses"]]


def _verified(token: str, keys: list[Mapping[str, str]]) -> dict[str, Any]:
    """Verify the RS256 signature of a token with one of these keys; return its claims."""
    signed, _, signature = token.rpartition(".")
    head, body = (json.loads(_decoded(part)) for part in signed.split("."))
    (key,) = [each for each in keys if each["kid"] == head["kid"]]
    numbers = rsa.RSAPublicNumbers(*(int.from_bytes(_decoded(key[name])) for name in ("e", "n")))
    numbers.public_key().verify(
        _decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    assert isinstance(body, dict)
    return body


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
