"""A cluster with a driver and a SecretSync controller, whose pods are ports of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.fakes.kube_api import KubeApiServer
from tests.fakes.status_page import CONTOSO, exposition
from tests.fakes.syncs import served, sync_manifest
from tests.unit.inventory.test_objects import AZURE, pod, pod_status, spc

CANARY = "canary-7b1e"


def component_pod(
    app: str, name: str, port: int, *arguments: str, ready: bool = True, address: str = "127.0.0.1"
) -> dict[str, Any]:
    """Return a pod of Keyferry with a port for metrics."""
    container = {
        "name": "c",
        "args": [*arguments],
        "ports": [{"name": "metrics", "containerPort": port}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "keyferry", "labels": {"app": app}},
        "spec": {"nodeName": f"node-of-{name}", "containers": [container]},
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def fill(api: KubeApiServer) -> None:
    """Add a volume, its pod and Secret, a SecretProviderClass and a SecretSync."""
    marked = {
        "secrets-store.csi.k8s.io/managed": "true",
        "internal.secrets-store.csi.k8s.io/node-name": "node-1",
    }
    status, web_pod = pod_status("secret/db"), pod()
    status["metadata"] = {**status["metadata"], "labels": marked}
    of_class = spc("azure", AZURE, "pw")
    of_class["spec"]["parameters"] |= {"keyvaultName": "contoso", "tenantID": CANARY}
    api.put("secretproviderclasspodstatuses", status)
    api.put("secretproviderclasses", of_class)
    api.put("pods", web_pod)
    secret = {"metadata": {"name": "db", "namespace": "shop", "labels": marked}}
    api.put("secrets", {**secret, "data": {"password": CANARY}, "type": "Opaque"})
    failed = {"type": "Ready", "status": "False", "reason": "ProviderError", "message": "denied"}
    for _ in range(2):  # a new object has no status
        api.put(
            "secretsyncs",
            served(sync_manifest("api", secretProviderClassName="web"), conditions=[failed]),
        )


@asynccontextmanager
async def metrics_page(text: str = "") -> AsyncIterator[int]:
    """Serve the metrics of a process; yield its port."""

    async def show(_: web.Request) -> web.Response:
        return web.Response(text=text or exposition(CONTOSO))

    app = web.Application()
    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
