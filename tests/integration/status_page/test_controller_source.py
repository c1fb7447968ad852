"""What the page of the SecretSync controller reads, over a Kubernetes API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.aio.clock import SystemClock
from keyferry.kubernetes.api.client import open_api
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.api.syncs.cache import SyncCache
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP
from keyferry.status_page.vaults import summarize_vaults
from keyferry.sync_controller.status_source import ControllerSource
from keyferry.telemetry.metrics import Metrics
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.status_page import CONTOSO
from tests.integration.status_page.cluster import CANARY, component_pod, fill, metrics_page


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A cluster with one volume and one SecretSync."""
    async with running_api(tmp_path) as running:
        fill(running)
        yield running


@asynccontextmanager
async def source(server: KubeApiServer) -> AsyncIterator[ControllerSource]:
    """The source of a controller in the pod `sync-0`."""
    async with open_api(load_config(server.kubeconfig)) as api:
        cache = SyncCache(
            api, groups=(UPSTREAM_GROUP,), namespaces=frozenset(), watches_service_accounts=False
        )
        cache.start()
        await cache.wait_synced()
        server.requests.clear()
        try:
            async with ControllerSource(
                api,
                cache=cache,
                metrics=Metrics(),
                namespace="keyferry",
                pod="sync-0",
                clock=SystemClock(),
            ) as opened:
                yield opened
        finally:
            await cache.stop()


async def test_only_pod_statuses_are_requested(server: KubeApiServer) -> None:
    """SecretSyncs and SecretProviderClasses come from the caches; Secrets are not read."""
    async with source(server) as opened:
        facts = await opened.read_cluster()
    lists = [each for each in server.requests if not each.startswith("watch ")]
    assert ["list secretproviderclasspodstatuses"] == lists
    ((row,),) = facts.volumes
    (sync,) = facts.syncs
    (spc,) = facts.classes
    assert ("web-1", "secret/db", "api", (CONTOSO,)) == (
        *(row.pod, row.object, sync.ref.name),
        spc.vaults,
    )
    assert () == facts.notes
    assert CANARY not in repr(facts)


async def test_denied_list_is_a_note(server: KubeApiServer) -> None:
    """The rest of the page works."""
    server.forbidden.add("list secretproviderclasspodstatuses")
    async with source(server) as opened:
        facts = await opened.read_cluster()
    assert ((), 1) == (facts.volumes, len(facts.syncs))
    (note,) = facts.notes
    assert "may not list secretproviderclasspodstatuses" in note


async def test_missing_crd_of_the_driver_is_no_problem(server: KubeApiServer) -> None:
    """The controller runs without a driver."""
    server.absent.add("secretproviderclasspodstatuses")
    async with source(server) as opened:
        facts = await opened.read_cluster()
    assert ((), ()) == (facts.volumes, facts.notes)


async def test_metrics_of_drivers_and_controllers_are_read(server: KubeApiServer) -> None:
    """By label, in the namespace of the controller; its own without a request."""
    async with (
        metrics_page() as port,
        metrics_page("other 1\n") as strange,
        source(server) as opened,
    ):
        server.put("pods", component_pod("secrets-store-csi-driver", "driver-1", port))
        server.put("pods", component_pod("secrets-store-csi-driver", "driver-2", strange))
        server.put("pods", component_pod("keyferry-sync", "sync-0", 1))
        facts = await opened.read_processes()
    found = {each.pod: each for each in facts.processes}
    assert {"driver-1": "", "driver-2": "", "sync-0": ""} == {
        name: each.problem for name, each in found.items()
    }
    assert "node-of-driver-1" == found["driver-1"].node
    (vault,) = summarize_vaults(facts.processes)
    assert (CONTOSO, 412) == (vault.vault, vault.requests)


async def test_process_without_an_answer_has_a_problem(server: KubeApiServer) -> None:
    """The others are shown."""
    async with metrics_page() as port, source(server) as opened:
        server.put("pods", component_pod("secrets-store-csi-driver", "driver-1", port))
        server.put("pods", component_pod("secrets-store-csi-driver", "silent", 1))
        server.put("pods", component_pod("secrets-store-csi-driver", "new", port, address=""))
        facts = await opened.read_processes()
    problems = {each.pod: each.problem for each in facts.processes}
    assert "" == problems["driver-1"]
    assert "cannot connect" in problems["silent"]
    assert "no address" in problems["new"]


async def test_damaged_metrics_are_a_problem(server: KubeApiServer) -> None:
    """A process need not be trusted."""
    damaged = 'keyferry_cache_bytes{a="b 1\n'
    async with metrics_page(damaged) as port, source(server) as opened:
        server.put("pods", component_pod("secrets-store-csi-driver", "driver-1", port))
        (process,) = (await opened.read_processes()).processes
    assert "not in the text format of Prometheus" in process.problem
