"""An installation of Keyferry in the small Kubernetes API server, as the chart makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.fakes.kube_api import KubeApiServer

AUDIENCES = ("api://AzureADTokenExchange", "vault")
DRIVER_ARGUMENTS = ("driver", "--drivername=secrets-store.csi.k8s.io")
SYNC_ARGUMENTS = (
    "sync-controller",
    "--namespaces=shop,other",
    f"--token-request-audience={','.join(AUDIENCES)}",
)


def install(
    api: KubeApiServer,
    *,
    driver: tuple[str, ...] = DRIVER_ARGUMENTS,
    controller: tuple[str, ...] = SYNC_ARGUMENTS,
    csi_driver: Mapping[str, Any] | None = None,
) -> None:
    """Install the driver and the SecretSync controller, and create service accounts.

    Args:
        api: the API server.
        driver: command and flags of the driver.
        controller: command and flags of the controller.
        csi_driver: fields that replace those in the spec of the CSIDriver object.
    """
    api.put("daemonsets", workload("keyferry", "secrets-store-csi-driver", driver))
    api.put("deployments", workload("keyferry-sync", "keyferry-sync", controller))
    spec = {
        "podInfoOnMount": True,
        "volumeLifecycleModes": ["Ephemeral"],
        "tokenRequests": [{"audience": each} for each in AUDIENCES],
        **(csi_driver or {}),
    }
    metadata = {"name": "secrets-store.csi.k8s.io", "namespace": ""}
    api.put("csidrivers", {"metadata": metadata, "spec": spec})
    for namespace in ("shop", "other"):
        for name in ("default", "web"):
            put_account(api, name, namespace)


def put_account(
    api: KubeApiServer, name: str, namespace: str = "shop", **metadata: Mapping[str, str]
) -> None:
    """Create or replace a service account."""
    api.put("serviceaccounts", {"metadata": {"name": name, "namespace": namespace, **metadata}})


def workload(name: str, account: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    """A DaemonSet or Deployment."""
    pod = {"serviceAccountName": account, "containers": [{"name": "a", "args": [*arguments]}]}
    metadata = {"name": name, "namespace": "keyferry"}
    return {"metadata": metadata, "spec": {"template": {"spec": pod}}}
