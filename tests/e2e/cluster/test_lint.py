"""`keyferry lint --cluster` over a real Kubernetes API, as a user who may only list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.waiting import eventually
from tests.fakes.cli import run_cli
from tests.fakes.syncs import sync_manifest
from tests.unit.lint.test_lint import VAULT

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio]

CRDS = Path(__file__).parents[3] / "deploy" / "crds"
USER = "reader"
KINDS = ("secretproviderclasses.secrets-store.csi.x-k8s.io", "secretsyncs.secret-sync.x-k8s.io")
INSTALLED_KINDS = ("serviceaccounts", "daemonsets.apps", "deployments.apps")
DEPLOY = Path(__file__).parents[3] / "deploy" / "keyferry.yaml"
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1", "namespace": "shop"},
    "spec": {
        "automountServiceAccountToken": False,
        "volumes": [
            {
                "name": "secrets",
                "csi": {
                    "driver": "secrets-store.csi.k8s.io",
                    "readOnly": True,
                    "volumeAttributes": {"secretProviderClass": "api"},
                },
            }
        ],
        "containers": [
            {"name": "a", "image": "a", "envFrom": [{"secretRef": {"name": "web"}}]},
            {
                "name": "b",
                "image": "b",
                "env": [
                    {
                        "name": "A",
                        "valueFrom": {"secretKeyRef": {"name": "web", "key": "passwort"}},
                    }
                ],
            },
        ],
    },
}


async def test_a_cluster_is_checked(tmp_path: Path) -> None:
    """Without the CRDs, with them, and what is wrong in it; Secrets may not be read."""
    async with running_api_server(tmp_path / "api") as server:
        arguments = ("lint", "--cluster", "-n", "shop", "--kubeconfig", server.kubeconfig_of(USER))
        role = (f"--resource={kind}" for kind in (*KINDS, "pods", *INSTALLED_KINDS))
        await server.kubectl("create", "namespace", "shop")
        refused = await run_cli(*arguments)
        assert 1 == refused.exit_code
        assert f"hint: Ask for the verb list on {KINDS[0]}" in refused.stderr

        for crd in sorted(CRDS.glob("*.yaml")):
            await server.kubectl("apply", "--server-side", f"--filename={crd}")
        for name in KINDS:
            await server.kubectl("wait", "--for=condition=Established", f"crd/{name}")
        await server.kubectl("create", "clusterrole", USER, "--verb=list", *role)
        binding = ("create", "clusterrolebinding", USER, f"--clusterrole={USER}", f"--user={USER}")
        await server.kubectl(*binding)
        for account in ("default", "web"):
            await server.kubectl("create", "serviceaccount", account, "--namespace=shop")
        sync = sync_manifest(secretProviderClassName="api")
        documents = yaml.safe_dump_all([yaml.safe_load(VAULT), sync, POD])
        await server.kubectl("apply", "--filename=-", stdin=documents)

        async def knows_all() -> bool:  # its description of new CRDs takes a moment
            done = await run_cli(*arguments)
            return "3 objects of the cluster checked" in done.stderr

        await eventually(knows_all, "the API server to describe the CRDs")
        done = await run_cli(*arguments)
        (line,) = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
        assert line == (
            "shop/web-1: error: Pod shop/web-1: secret web has no key passwort; its keys are:"
            " password [secret-key]"
        )
        warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
        assert 1 == len(warnings)
        assert "the CSIDriver object is not checked" in warnings[0]
        await check_installation(server)


async def check_installation(server: ApiServer) -> None:
    """The manifests of deploy, and what is missing in them for the objects of the namespace."""

    async def findings(*arguments: str) -> list[str]:
        done = await run_cli("lint", "--cluster", "-n", "shop", "--disable=secret-key",
                             "--kubeconfig", server.kubeconfig, *arguments)  # fmt: skip
        assert "warning: " not in done.stderr
        lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
        return [
            line.rpartition(" ")[2].strip("[]") + " " + line.partition(":")[0] for line in lines
        ]

    await server.kubectl("apply", "--server-side", f"--filename={DEPLOY}")
    assert ["audience shop/api"] == await findings()  # deploy requests no tokens
    requests = [{"audience": "vault"}]
    patch = yaml.safe_dump({"spec": {"tokenRequests": requests}})
    driver = "csidriver/secrets-store.csi.k8s.io"
    await server.kubectl("patch", driver, "--type=merge", f"--patch={patch}")
    assert [] == await findings()
    secret_object = {"secretName": "a", "type": "Opaque"}
    data = [{"objectName": "password", "key": "a"}]
    changed = yaml.safe_dump({"spec": {"secretObjects": [{**secret_object, "data": data}]}})
    await server.kubectl(
        "patch", "secretproviderclass/api", "--namespace=shop", "--type=merge", f"--patch={changed}"
    )
    (found,) = await findings()
    assert found.startswith("rbac ")
    await server.kubectl("create", "role", "secrets", "--namespace=shop", "--resource=secrets",
                         "--verb=get,list,watch,create,patch,delete")  # fmt: skip
    await server.kubectl("create", "rolebinding", "secrets", "--namespace=shop", "--role=secrets",
                         "--group=system:serviceaccounts")  # fmt: skip
    assert [] == await findings()
    await server.kubectl("delete", driver, "serviceaccount/web", "--namespace=shop")
    await server.kubectl("delete", "clusterrole", "secretproviderclasses-role")
    assert {"rbac", "csi-driver", "service-account"} == {
        each.partition(" ")[0] for each in await findings()
    }
