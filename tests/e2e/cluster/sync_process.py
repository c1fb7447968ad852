"""`keyferry sync-controller` as processes beside a real Kubernetes API, without nodes.

async with running_sync_world(folder) as world:
    controller = await world.start_controller("keyferry", namespaces=["shop"])
    await world.client.apply(azure_class(...), secret_sync(...), namespace="shop")
    await controller.kill()

Each controller has the arguments, the permissions and the admission policies of the chart.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import yaml
from prometheus_client.parser import text_string_to_metric_families

from keyferry_devvault.model import EXCHANGE_AUDIENCE
from tests.e2e.children import Child, Children, ending_children
from tests.e2e.cluster.api_client import ApiClient, open_client
from tests.e2e.cluster.api_recorder import Recorder, recording
from tests.e2e.cluster.api_server import ApiServer, free_ports, running_api_server
from tests.e2e.cluster.chart import Manifest, one, render
from tests.e2e.cluster.kubectl import Document
from tests.e2e.cluster.manifests import MACHINE, VAULT
from tests.e2e.cluster.programs import built_programs
from tests.e2e.cluster.waiting import eventually, must_run
from tests.fakes.devvault import DevVault, running_devvault

SYSTEM = "kube-system"
"""The namespace of the controllers, into which `render` installs the chart."""
DEFAULT = "keyferry"
"""The name of the controller that handles SecretSyncs without `secretSyncControllerName`."""
LEASE = "keyferry-sync"
CRDS = Path(__file__).parents[3] / "deploy" / "crds"

_INSTALLED = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)
"""What is used of the chart, beside the arguments of its Deployment."""
_RECORDED = ("SecretSync", "Secret", "Event", "Lease", "SecretProviderClass")
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "None", "userGroups": ["system:masters"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Write:
    """One request of a controller that changes something, from the audit log of the API server.

    Attributes:
        token_id: of the controller's token: which controller it was.
        verb: of the request.
        resource: with a subresource after a slash.
        started: when the API server received it.
        ended: when it was answered.
        status: of the response.
    """

    token_id: str
    verb: str
    resource: str
    namespace: str
    name: str
    started: datetime
    ended: datetime
    status: int


@dataclass
class Controller:
    """A process of the controller.

    Attributes:
        name: its `--controller-name`.
        pod: the name of its pod.
        pod_uid: the uid of its pod.
        token_id: the id of its token for the Kubernetes API.
        child: the process.
        pages: metrics pages that were read.
    """

    name: str
    pod: str
    pod_uid: str
    token_id: str
    child: Child
    _metrics: str
    _health: str
    pages: list[str] = field(default_factory=list)

    async def is_ready(self) -> bool:
        """Wait until the controller is ready."""

        async def ready() -> bool:
            must_run(self.child)
            await self._page(f"http://{self._health}/readyz")
            return True

        return await eventually(ready, f"{self.pod} to be ready")

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a metric with these labels."""
        page = await self._page(f"http://{self._metrics}/metrics")
        self.pages.append(page)
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def leads(self) -> None:
        """Wait until this process is the leader."""

        async def leader() -> bool | None:
            return await self.metric("keyferry_secretsync_leader") == 1 or None

        await eventually(leader, f"{self.pod} to lead")

    async def terminate(self) -> None:
        """Send SIGTERM; the process must end without an error."""
        self.child.send(signal.SIGTERM)
        status = await self.child.ends()
        assert 0 == status, f"{self.pod} exited with {status}: {self.child.text()[-2000:]}"

    async def kill(self) -> None:
        """Kill the process and its children, as an outage of the node."""
        await asyncio.to_thread(self.child.end)

    @staticmethod
    async def _page(url: str) -> str:
        def read() -> str:
            try:
                with urlopen(url, timeout=10) as response:
                    content: bytes = response.read()
            except HTTPError as error:
                with error:
                    text = error.read().decode()
                raise AssertionError(f"{url}: {error.code} {text}") from None
            except OSError as error:
                raise AssertionError(f"{url}: {error}") from None
            return content.decode()

        return await asyncio.to_thread(read)


@dataclass
class SyncWorld:
    """A Kubernetes API, a development vault, and controllers.

    Attributes:
        server: the API server.
        client: calls it as an administrator.
        recorder: every version of SecretSyncs, Secrets, events and Leases.
        vault: the development vault, whose managed identity `MACHINE` may read the vault `VAULT`.
        folder: for files of tests.
        canaries: texts that must not leave Secrets and vaults; see `value`.
        controllers: all that were started.
    """

    server: ApiServer
    client: ApiClient
    recorder: Recorder
    vault: DevVault
    folder: Path
    children: Children
    canaries: list[str] = field(default_factory=list)
    controllers: list[Controller] = field(default_factory=list)

    @property
    def provider_sockets(self) -> Path:
        """The folder with the sockets of external providers."""
        return self.folder / "providers"

    def value(self, name: str) -> str:
        """Return a new secret text, which must not leave Secrets and vaults."""
        text = f"{name}-{secrets.token_hex(12)}"
        self.canaries.append(text)
        return text

    def set_secret(self, name: str, *, vault: str = VAULT) -> str:
        """Store a new version of a secret, and return its value."""
        text = self.value(name)
        self.vault.set_secret(vault, name, text)
        return text

    async def start_garbage_collector(self) -> None:
        """Start the controllers of Kubernetes that delete what has lost its owner."""
        programs = await built_programs()
        self.children.start(
            "kube-controller-manager",
            programs.of_kubernetes("kube-controller-manager"),
            f"--kubeconfig={self.server.kubeconfig}",
            "--controllers=garbage-collector-controller,namespace-controller",
            "--secure-port=0",
            "--leader-elect=false",
        )

    async def make_namespace(self, name: str) -> None:
        """Create a namespace with its service account `default`; no-op if it exists."""
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.client.apply(namespace)
        await self.client.apply(service_account("default", namespace=name))

    async def start_controller(
        self,
        name: str,
        *flags: str,
        namespaces: Sequence[str],
        replica: int = 0,
        audiences: Sequence[str] = (EXCHANGE_AUDIENCE,),
        uses_emulator: bool = True,
    ) -> Controller:
        """Start a controller that handles SecretSyncs with `secretSyncControllerName: NAME`.

        The controller `DEFAULT` also handles those without a name.

        Args:
            name: of the controller, its pods and its service account.
            flags: further flags, which override those of the chart.
            namespaces: where it may work; created if necessary.
            replica: distinguishes controllers with the same name.
            audiences: of the tokens that it may request.
            uses_emulator: whether the development vault receives its requests.
        """
        await asyncio.gather(*(self.make_namespace(each) for each in (SYSTEM, *namespaces)))
        chart = await _rendered(name, namespaces, audiences, opts_in=_OPT_IN in flags)
        await self.client.apply(*(each for each in chart if each["kind"] in _INSTALLED))
        account = f"{name}-sync"
        token = await self.server.kubectl(
            "create", "token", account, f"--namespace={SYSTEM}", "--duration=24h"
        )
        pod, uid = f"{account}-{replica}", str(uuid4())
        metrics, health = (f"127.0.0.1:{port}" for port in free_ports(2))
        child = self.children.start(
            pod,
            "keyferry",
            *one(chart, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"],
            # A later flag overrides that of the chart.
            f"--provider-volume={self.provider_sockets}",
            f"--metrics-bind-address={metrics}",
            f"--health-probe-bind-address={health}",
            f"--dev-vault={self.vault.data.folder if uses_emulator else ''}",
            f"--kubeconfig={self._kubeconfig(pod, token.strip())}",
            "-v=10",
            *flags,
            environment={"POD_NAME": pod, "POD_NAMESPACE": SYSTEM, "POD_UID": uid},
        )
        controller = Controller(name, pod, uid, _token_id(token), child, metrics, health)
        self.controllers.append(controller)
        await controller.is_ready()
        return controller

    def writes(self, *controllers: Controller, after: int = 0) -> list[Write]:
        """Return what controllers wrote to the API, in the order of the answers.

        Args:
            controllers: which.
            after: position in the audit log; see `mark`.
        """
        ids = {each.token_id for each in controllers}
        return [each for each in self._audit_entries(after) if each.token_id in ids]

    def mark(self) -> int:
        """Return the current end of the audit log."""
        return (self.folder / "audit.log").stat().st_size

    def _audit_entries(self, after: int) -> Iterator[Write]:
        with (self.folder / "audit.log").open("rb") as log:
            log.seek(after)
            for line in log:
                entry = json.loads(line)
                at = entry.get("objectRef", {})
                (token,) = entry["user"].get("extra", {}).get(_CREDENTIAL_ID, [""])
                yield Write(
                    token.removeprefix("JTI="),
                    entry["verb"],
                    "/".join(filter(None, (at.get("resource", ""), at.get("subresource", "")))),
                    at.get("namespace", ""),
                    at.get("name", ""),
                    datetime.fromisoformat(entry["requestReceivedTimestamp"]),
                    datetime.fromisoformat(entry["stageTimestamp"]),
                    entry["responseStatus"]["code"],
                )

    def _kubeconfig(self, user: str, token: str) -> Path:
        """Write the kubeconfig of a service account."""
        cluster = {
            "server": self.server.address.url,
            "certificate-authority": str(self.server.authority.certificate),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "keyferry",
            "clusters": [{"name": "keyferry", "cluster": cluster}],
            "contexts": [{"name": "keyferry", "context": {"cluster": "keyferry", "user": user}}],
            "users": [{"name": user, "user": {"token": token}}],
        }
        path = self.folder / "kubeconfigs" / f"{user}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path


_OPT_IN = "--service-account-opt-in=true"
_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


def _token_id(token: str) -> str:
    """Return the id of a token, which the audit log has as well."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["jti"])


def service_account(name: str, *, namespace: str = "", labels: Document | None = None) -> Document:
    """Return a service account."""
    where = {"namespace": namespace} if namespace else {}
    metadata = {"name": name, **where, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


async def _rendered(
    name: str, namespaces: Sequence[str], audiences: Sequence[str], *, opts_in: bool
) -> list[Manifest]:
    """Return the objects of the chart for a controller."""
    values = {
        "fullnameOverride": name,
        "driver": {"enabled": False},
        "leaseDir": "",
        "secretSync": {
            "enabled": True,
            "crd": "skip",
            "controllerName": name,
            "defaultController": name == DEFAULT,
            "namespaces": list(namespaces),
            "serviceAccountOptIn": opts_in,
            "tokenRequests": [{"audience": each} for each in audiences],
        },
    }
    return await render(values)


@asynccontextmanager
async def running_sync_world(folder: Path, *flags: str) -> AsyncIterator[SyncWorld]:
    """Run an API server with the CRDs of `deploy/`, and a development vault.

    Args:
        folder: for all files; a short path, because it contains sockets.
        flags: further flags of kube-apiserver.
    """
    async with (
        running_api_server(folder / "api", *audit_flags(folder), *flags) as server,
        running_devvault(folder) as vault,
        open_sync_world(server, vault, folder) as world,
    ):
        yield world


def audit_flags(folder: Path) -> tuple[str, ...]:
    """Return flags of kube-apiserver for an audit log in a folder."""
    policy = folder / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(_AUDIT_POLICY))
    log = f"--audit-log-path={folder / 'audit.log'}"
    return f"--audit-policy-file={policy}", log, "--audit-log-mode=blocking"


@asynccontextmanager
async def open_sync_world(
    server: ApiServer, vault: DevVault, folder: Path
) -> AsyncIterator[SyncWorld]:
    """Prepare an API server, which has `audit_flags`, and a development vault."""
    (folder / "providers").mkdir()
    vault.add_managed_identity(MACHINE)
    vault.set_secret(VAULT, "unused", "unused")
    vault.grant(VAULT, MACHINE, "get", "list")
    await server.kubectl("apply", f"--filename={CRDS}")
    await server.kubectl(
        "wait", "--for=condition=Established", "--timeout=60s", f"--filename={CRDS}"
    )
    keys = await server.kubectl("get", "--raw", "/openid/v1/jwks")
    vault.data.identities.add_issuer(server.address.url, keys)
    async with (
        open_client(server) as client,
        recording(client, *_RECORDED) as recorder,
        ending_children(folder / "controllers") as children,
    ):
        world = SyncWorld(server, client, recorder, vault, folder, children)
        yield world
    for controller in world.controllers:
        text = controller.child.text()
        assert "internal error" not in text, f"{controller.pod}: {text}"
