"""An API server with the chart, and the requests of the SecretSync controller.

Helm installs the chart. The requests are sent with the service account of the controller, so that
the permissions of the chart are tested as well.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.programs import built_programs
from tests.unit.chart.values import CHART

AUDIENCE = "api://AzureADTokenExchange"
CONTROLLER = "system:serviceaccount:kube-system:keyferry-sync"
CRD = "secretsyncs.secret-sync.x-k8s.io"
GKE_CRD = "secretsyncs.secret-sync.gke.io"
LABEL = {"secrets-store.sync.x-k8s.io": ""}
OPT_IN = "secret-sync.x-k8s.io/allowed"
DRY_RUN = "--dry-run=server"
NAMESPACE = "shop"
VALUES: Document = {
    "syncSecret": {"enabled": True, "namespaces": [NAMESPACE]},
    "secretSync": {
        "enabled": True,
        "namespaces": [NAMESPACE],
        "serviceAccountOptIn": True,
        "gkeCrd": True,
        "tokenRequests": [{"audience": AUDIENCE}, {"audience": "vault"}],
    },
}


@dataclass(frozen=True)
class Api:
    """An API server with the chart.

    Attributes:
        server: the API server.
        helm_program: the path of helm.
    """

    server: ApiServer
    helm_program: Path

    async def helm(self, *arguments: str, values: Document = VALUES) -> str:
        """Run helm in kube-system.

        Raises:
            AssertionError: the call failed; the message contains its standard error.
        """
        flags = ["--values=-"] if arguments[0] in {"install", "upgrade", "template"} else []
        command = [str(self.helm_program), f"--kubeconfig={self.server.kubeconfig}"]
        run = await asyncio.to_thread(
            subprocess.run,
            [*command, "--namespace=kube-system", *arguments, *flags],
            input=yaml.safe_dump(values),
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == run.returncode, run.stderr
        return run.stdout

    async def user(self, *arguments: str, stdin: Any = None) -> str:
        """Run kubectl as an administrator, in the namespace of the tests."""
        return await self.server.kubectl(
            *arguments, f"--namespace={NAMESPACE}", stdin=yaml.safe_dump(stdin)
        )

    async def create(self, manifest: Document, *, account: str = CONTROLLER) -> str:
        """Ask to create an object."""
        flags = (DRY_RUN, "--filename=-", f"--as={account}")
        return await self.user("create", *flags, stdin=manifest)

    async def apply(self, manifest: Document, *flags: str, account: str = CONTROLLER) -> str:
        """Apply an object as the controller does."""
        manager = "--field-manager=secrets-store-sync-controller"
        how = ("--server-side", "--force-conflicts", manager, "--filename=-", f"--as={account}")
        return await self.user("apply", *how, *flags, stdin=manifest)

    async def sync(self, manifest: Document) -> str:
        """Ask to create a SecretSync, as an administrator."""
        return await self.user("create", DRY_RUN, "--filename=-", stdin=manifest)

    async def patch(self, manifest: Document) -> str:
        """Update a Secret with a merge patch, which replaces the owners as a whole."""
        change = f"--patch={json.dumps(manifest)}"
        name = manifest["metadata"]["name"]
        return await self.user(
            "patch", "secret", name, "--type=merge", change, f"--as={CONTROLLER}"
        )

    async def get(self, kind: str, name: str) -> Document:
        """Read an object, as an administrator."""
        return await self.server.kubectl.get(kind, name, f"--namespace={NAMESPACE}")

    async def delete(self, name: str, *, account: str = CONTROLLER) -> str:
        """Ask to delete a Secret."""
        return await self.user("delete", "secret", name, DRY_RUN, f"--as={account}")

    async def token(self, account: str, *flags: str, user: str = CONTROLLER) -> str:
        """Request a token that expires in 600 seconds, unless the flags say otherwise."""
        command = ("create", "token", account, "--duration=600s")
        return await self.user(*command, *flags, f"--as={user}")


@asynccontextmanager
async def running_chart(folder: Path) -> AsyncIterator[Api]:
    """Run an API server with the chart while the block runs.

    Args:
        folder: for the files of the server; must be absent or empty.
    """
    programs = await built_programs()
    async with running_api_server(folder) as server:
        running = Api(server, programs.helm)
        await server.kubectl("create", "namespace", NAMESPACE)
        for account in ("web", "other"):
            await running.user("create", "serviceaccount", account)
        await running.user("label", "serviceaccount", "web", f"{OPT_IN}=true")
        await running.helm("install", "keyferry", str(CHART))
        await server.kubectl("wait", "--for=condition=Established", "crd", CRD, GKE_CRD)
        yield running


async def denied(request: Any) -> str:
    """Return the message of a request that must fail.

    Raises:
        AssertionError: it succeeded.
    """
    try:
        answer = await request
    except AssertionError as error:
        return str(error)
    raise AssertionError(f"was permitted: {answer}")


def owner(
    name: str, *, api: str = "secret-sync.x-k8s.io/v1alpha1", kind: str = "SecretSync"
) -> Any:
    """An owner reference."""
    return {"apiVersion": api, "kind": kind, "name": name, "uid": f"uid-{api}-{kind}-{name}"}


def secret(
    name: str,
    *,
    owners: Any = (),
    labels: Any = (),
    annotations: Any = (),
    kind: str = "Opaque",
    value: str = "one",
) -> Document:
    """A Secret."""
    data = {"tls.crt": value, "tls.key": value} if kind == "kubernetes.io/tls" else {"key": value}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {
            "name": name,
            "labels": dict(labels),
            "annotations": dict(annotations),
            "ownerReferences": list(owners),
        },
        "stringData": data,
    }


def synced(name: str, **more: Any) -> Document:
    """A Secret as the controller writes it."""
    return secret(name, **{"owners": [owner(name)], "labels": LABEL, **more})


def secret_sync(
    name: str,
    group: str = "secret-sync.x-k8s.io/v1alpha1",
    *,
    data: Any = ({"sourcePath": "password", "targetKey": "password"},),
    of_secret: Document | None = None,
) -> Document:
    """A SecretSync."""
    return {
        "apiVersion": group,
        "kind": "SecretSync",
        "metadata": {"name": name},
        "spec": {
            "secretProviderClassName": "web",
            "serviceAccountName": "web",
            "secretObject": {"data": list(data), **(of_secret or {})},
        },
    }
