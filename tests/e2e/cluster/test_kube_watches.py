"""Watches of a quiet node on a real, busy API server, whose etcd compacts its history."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.kubernetes.api.store import open_kube_store
from tests.e2e.cluster.api_client import ApiClient, open_client
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.waiting import eventually
from tests.fakes.kube_api import class_manifest, pod_manifest

pytestmark = pytest.mark.timeout(400)

CRDS = Path(__file__).parents[3] / "deploy" / "crds"
WATCH_SECONDS = 3.0
"""Watches last from here to twice that, instead of 5 to 10 minutes."""
BUSY_SECONDS = 180.0
"""The watch cache of the server grows until it holds the changes of 75 seconds. After twice that
time it has forgotten the first ones, whatever their rate."""
COMPACTION_SECONDS = 20.0
FOREIGN = "elsewhere"


async def test_rollovers_on_a_busy_server_do_not_list_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pods of other nodes and SecretProviderClasses of other namespaces change all the time."""
    module = "keyferry.kubernetes.api.watches.stream"
    monkeypatch.setattr(f"{module}.MIN_WATCH_SECONDS", WATCH_SECONDS)
    async with (
        running_api_server(tmp_path / "api", "--min-request-timeout=5") as server,
        open_client(server) as client,
    ):
        await _create(server, client)
        async with open_kube_store(server.kubeconfig, node="node-1", clock=SystemClock()) as store:
            await store.wait_synced()
            before = await _requests(server)
            busy = asyncio.create_task(_change_others(client))
            compacting = asyncio.create_task(_compact(server, client))
            await asyncio.sleep(BUSY_SECONDS)
            busy.cancel()
            compacting.cancel()
            await asyncio.gather(busy, compacting, return_exceptions=True)
            made = await _requests(server) - before
            lists = {key: count for key, count in made.items() if key[0] == "LIST"}
            assert {} == lists
            for resource in ("secretproviderclasses", "secretproviderclasspodstatuses"):
                assert made["WATCH", resource] >= BUSY_SECONDS / (2 * WATCH_SECONDS + 1)

            await client.apply(class_manifest("web", provider="vault"))

            async def changed() -> bool | None:
                return (await store.get_class("shop", "web")).provider == "vault" or None

            await eventually(changed, "the watch to report an edit")


async def _create(server: ApiServer, client: ApiClient) -> None:
    await server.kubectl("apply", f"--filename={CRDS}")
    await server.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", f"--filename={CRDS}"
    )
    for namespace in ("shop", FOREIGN):
        await server.kubectl("create", "namespace", namespace)
        await server.kubectl("create", "serviceaccount", "default", f"--namespace={namespace}")
    await client.apply(class_manifest("web"), class_manifest("web", FOREIGN))
    for namespace, node in (("shop", "node-1"), (FOREIGN, "node-2")):
        pod = pod_manifest("web-0", node, namespace=namespace)
        del pod["metadata"]["uid"], pod["status"]
        pod["spec"]["containers"] = [{"name": "web", "image": "web"}]
        pod["spec"]["automountServiceAccountToken"] = False
        pod["spec"]["volumes"][0]["csi"]["readOnly"] = True
        await client.apply({"apiVersion": "v1", "kind": "Pod", **pod})


async def _change_others(client: ApiClient) -> None:
    for number in itertools.count():
        with suppress(AssertionError):
            annotations = {"number": str(number)}
            await client.annotate("SecretProviderClass", FOREIGN, "web", annotations)
            await client.annotate("Pod", FOREIGN, "web-0", annotations)
        await asyncio.sleep(0.03)


async def _compact(server: ApiServer, client: ApiClient) -> None:
    while True:
        await asyncio.sleep(COMPACTION_SECONDS)
        found = await client.get("SecretProviderClass", FOREIGN, "web")
        await server.compact(found["metadata"]["resourceVersion"])


async def _requests(server: ApiServer) -> Counter[tuple[str, str]]:
    """Return the number of lists and watches by resource, from the metrics of the server.

    Of custom resources only, which no other client lists.
    """
    text = await server.kubectl("get", "--raw", "/metrics")
    found: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if line.startswith("apiserver_request_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels["resource"].startswith("secretprovider") and labels["verb"] in {
                "LIST",
                "WATCH",
            }:
                found[labels["verb"], labels["resource"]] += int(float(line.rpartition(" ")[2]))
    return found
