"""`keyferry ui` over a Kubernetes API: forwarded to the controller, and on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from keyferry.status_page.server import serving_page
from tests.fakes.cli import run_cli
from tests.fakes.cli_ui import running_ui
from tests.fakes.clock import ManualClock
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.status_page import ExampleSource
from tests.integration.status_page.cluster import CANARY, component_pod, fill, metrics_page

ENABLED = "--status-page-addr=127.0.0.1:{}"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A cluster with one volume and one SecretSync."""
    async with running_api(tmp_path) as running:
        fill(running)
        yield running


@asynccontextmanager
async def controller(api: KubeApiServer) -> AsyncIterator[None]:
    """A controller with a page, beside a pod that is not ready."""
    async with serving_page(
        ("127.0.0.1", 0), ExampleSource(), server="sync-1", clock=ManualClock(), flag="--x"
    ) as port:
        flag = ENABLED.format(port)
        api.put("pods", component_pod("keyferry-sync", "sync-0", 1, flag, ready=False))
        api.put("pods", component_pod("keyferry-sync", "sync-1", 1, flag))
        yield


async def test_page_of_a_ready_controller_is_forwarded(api: KubeApiServer) -> None:
    """Each connection of the browser is one to the pod."""
    async with controller(api), running_ui(api.kubeconfig) as ui:
        pages = await asyncio.gather(*(ui.get(path) for path in ("", "workloads", "vaults")))
        errors = await ui.end()
    assert all("sync-1" in page for page in pages)
    assert "Forwarding to pod keyferry/sync-1." in errors
    assert "get pods/portforward" in api.requests


async def test_missing_permission_to_forward_is_an_error(api: KubeApiServer) -> None:
    """With the permission to ask for."""
    api.forbidden.add("get pods/portforward")
    async with controller(api):
        done = await run_cli("ui", "--kubeconfig", api.kubeconfig)
    assert 1 <= done.exit_code < 128
    assert "pods/portforward" in done.stderr
    assert "Ask for the verb" in done.stderr


async def test_disabled_page_is_served_by_the_command(api: KubeApiServer) -> None:
    """A warning says how to enable that of the controller."""
    api.put("pods", component_pod("keyferry-sync", "sync-0", 1, "sync-controller"))
    async with running_ui(api.kubeconfig) as ui:
        page = await ui.get("workloads")
        errors = await ui.end()
    assert "web-1" in page
    assert "secretSync.statusPage.enabled=true" in errors


async def test_local_page_shows_the_cluster_with_the_rights_of_the_user(
    api: KubeApiServer,
) -> None:
    """Metrics come through the API server; no value is read or shown."""
    async with metrics_page() as port:
        api.put("pods", component_pod("secrets-store-csi-driver", "driver-1", port))
        async with running_ui(api.kubeconfig, "--local") as ui:
            pages = [await ui.get(path) for path in ("", "workloads", "classes", "vaults")]
            await ui.end()
    text = "".join(pages)
    for part in ("web-1", "secret/db", "Failing", "denied", "contoso.vault.azure.net", "driver-1"):
        assert part in text
    assert "get pods/proxy" in api.requests
    assert CANARY not in text


async def test_local_page_without_all_permissions_says_what_is_missing(
    api: KubeApiServer,
) -> None:
    """In one namespace."""
    api.forbidden |= {"list pods", "list secrets"}
    async with running_ui(api.kubeconfig, "--local", "-n", "shop") as ui:
        page, vaults = await ui.get("workloads"), await ui.get("vaults")
        await ui.end()
    assert "web-1" in page
    assert "Secrets cannot be listed (permission denied)" in page
    assert "may not list pods" in vaults


async def test_denied_proxy_is_not_an_outage_of_the_drivers(api: KubeApiServer) -> None:
    """The page says that their state is unknown."""
    api.forbidden.add("get pods/proxy")
    api.put("pods", component_pod("secrets-store-csi-driver", "driver-1", 1))
    async with running_ui(api.kubeconfig, "--local") as ui:
        page = await ui.get("")
        await ui.end()
    assert "may not get pods/proxy" in page
    assert "not respond" not in page
