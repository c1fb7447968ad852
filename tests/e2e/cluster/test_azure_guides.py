"""docs/guides/azure-*.md: the commands for a cluster, run unchanged.

`kubectl` and its API server are real. `az` and `azcmagent` are stand-ins that print ids, because
there is no Azure, and `kubectl exec` is skipped, because there is no node. What the pods would read
is tested in tests/integration/test_azure_guides.py and test_azure_examples.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.kubectl import Document

ROOT = Path(__file__).parents[3]
GUIDES = sorted((ROOT / "docs" / "guides").glob("azure-*.md"))
BLOCK = re.compile(r"^```sh$(.*?)^```$", re.MULTILINE | re.DOTALL)
LAPTOP = "## Try it on a laptop"
TENANT, AN_ID = "99999999-0000-4000-8000-000000000000", "88888888-0000-4000-8000-000000000000"
STUBS = f"""
az() {{
  case "$*" in
    "account show"*) echo {TENANT} ;;
    *"[appId,password]"*) printf '%s\\npassword\\n' {AN_ID} ;;
    *"[appId,fileWithCertAndPrivateKey]"*) printf '%s\\n%s\\n' {AN_ID} "$PWD/app.pem" ;;
    *) echo {AN_ID} ;;
  esac
}}
azcmagent() {{ :; }}
real() {{ "$KUBECTL" --kubeconfig "$KUBECONFIG" "$@"; }}
kubectl() {{
  case " $* " in
    *" exec "*) ;;
    " create namespace shop ")
      # The guides share one cluster without a controller that creates this account.
      real get namespace shop || {{ real "$@"; real -n shop create serviceaccount default; }} ;;
    *) real "$@" ;;
  esac
}}
"""

pytestmark = pytest.mark.timeout(300)


def commands(guide: Path) -> str:
    """Return the commands of a guide for a cluster, with the paths of the examples."""
    text = guide.read_text().partition(LAPTOP)[0]
    return "".join(BLOCK.findall(text)).replace("examples/azure", str(ROOT / "examples" / "azure"))


def crd_of_pod_identity(kind: str) -> Document:
    """Return a CRD of AAD Pod Identity, which the guide requires on the cluster."""
    plural = {"AzureIdentity": "azureidentities", "AzureIdentityBinding": "azureidentitybindings"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    group = "aadpodidentity.k8s.io"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural[kind]}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in of a test"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural[kind]},
            "versions": [version],
        },
    }


async def prepare(server: ApiServer) -> None:
    """Apply the CRDs of Keyferry and AAD Pod Identity."""
    folder = ROOT / "deploy" / "crds"
    documents = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    documents += [crd_of_pod_identity(kind) for kind in ("AzureIdentity", "AzureIdentityBinding")]
    await server.kubectl.apply(*documents)
    await server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=120s")


async def run(server: ApiServer, folder: Path, script: str) -> None:
    """Run the script in a shell that stops at the first failure."""
    kubectl = server.kubectl
    environment = {"KUBECTL": kubectl.program, "KUBECONFIG": str(kubectl.kubeconfig)}
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-eu", "-o", "pipefail", "-c", STUBS + script],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr


async def test_guide_commands_for_a_cluster_work_unchanged(tmp_path: Path) -> None:
    """In every guide, the SecretProviderClass has the vault and tenant, and the pod mounts it."""
    (tmp_path / "app.pem").write_text("a certificate and its key")
    async with running_api_server(tmp_path / "api") as server:
        await prepare(server)
        for guide in GUIDES:
            await run(server, tmp_path, commands(guide).replace("VAULT=contoso", "VAULT=mine"))
            name = guide.stem
            found = await server.kubectl.get("secretproviderclass", name, "--namespace=shop")
            parameters = found["spec"]["parameters"]
            assert ("mine", TENANT) == (parameters["keyvaultName"], parameters["tenantID"])
            assert parameters.get("clientID", AN_ID) == AN_ID, name
            pod = await server.kubectl.get("pod", name, "--namespace=shop")
            csi = [volume["csi"] for volume in pod["spec"]["volumes"] if "csi" in volume]
            assert [name] == [volume["volumeAttributes"]["secretProviderClass"] for volume in csi]
            await assert_referenced_secret(server, csi[0])


async def assert_referenced_secret(server: ApiServer, csi: Document) -> None:
    """Assert that the referenced Secret exists with the label that the driver requires."""
    if reference := csi.get("nodePublishSecretRef"):
        secret = await server.kubectl.get("secret", reference["name"], "--namespace=shop")
        assert "true" == secret["metadata"]["labels"]["secrets-store.csi.k8s.io/used"]
        assert {"clientid"} < set(secret["data"])
