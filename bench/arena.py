"""Where the contenders are measured: one vault, one Kubernetes API, a fresh stack for each load.

async with running_arena(folder, programs) as arena:
    async with arena.contender(ORIGINALS) as running:
        seconds = await running.publish("n20-1", pod=0)
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc
import yaml

from bench.load_vault import VAULT, LoadVault, running_load_vault
from bench.processes import ProcessUsage, process_usage
from tests.compat.cases import pod_manifest, secret
from tests.compat.comparison import CRDS
from tests.compat.stacks import ALL_KEYFERRY, ALL_UPSTREAM, Ground, Pairing, Stack, start_stack
from tests.compat.upstream import UpstreamPrograms
from tests.e2e.children import PATIENCE_SECONDS, Children, ending_children
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.kubectl import Document
from tests.e2e.node import Volume
from tests.fakes.mounts import unmount_below

PODS = 110
"""As many as kubelet lets onto a node."""
ROTATION_SECONDS = 2
ROTATION = ("--enable-secret-rotation", f"--rotation-poll-interval={ROTATION_SECONDS}s")
FULL_RATE_LIMIT = ("--vault-qps=6000",)
"""Two seconds stand for the two minutes of an interval, in which a vault's budget of 100 calls a
second, the default, gains 12,000."""
BIG_MESSAGES = ("--max-call-recv-msg-size=67108864",)
KUBELET_INITIAL_BACKOFF = 0.5
KUBELET_MAX_BACKOFF = 122.0


@dataclass(frozen=True)
class Contender:
    """One of those who are compared.

    Attributes:
        name: in the table.
        pairing: which stack it is.
        keyferry: path of the keyferry program.
    """

    name: str
    pairing: Pairing
    keyferry: str = "keyferry"


UPSTREAM = Contender("upstream", ALL_UPSTREAM)
KEYFERRY = Contender("keyferry", ALL_KEYFERRY)


class CountingVault(Protocol):
    """What the contenders read."""

    def usage(self) -> ProcessUsage:
        """Of its processes."""

    async def reset_counts(self) -> None:
        """Count from nothing."""

    async def counts(self) -> Mapping[str, int]:
        """What was asked since then: `secret`, `list`, `token` among others."""


@dataclass(frozen=True)
class PodCredentials:
    """What kubelet hands over about the identity of a pod.

    Attributes:
        context: beside the usual.
        secrets: of the `nodePublishSecretRef`.
    """

    context: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def service_principal(identity: int) -> PodCredentials:
    """A service principal of its own for each identity."""
    return PodCredentials(secrets={"clientid": f"app-{identity}", "clientsecret": "s3cret"})


@dataclass
class RunningContender:
    """A contender at work.

    Attributes:
        contender: who it is.
        stack: its processes.
        vault: what it reads.
        uids: of the pods.
        started_seconds: from the start of its processes until they answered.
        credentials_of: how the pods of each identity sign in.
    """

    contender: Contender
    stack: Stack
    vault: CountingVault
    uids: Mapping[int, str]
    started_seconds: float
    credentials_of: Callable[[int], PodCredentials] = service_principal
    volumes: dict[tuple[str, int], Volume] = field(default_factory=dict)

    async def publish(self, class_name: str, pod: int, *, identity: int = 0) -> float:
        """Publish a class for a pod as one of the identities; return the seconds it took."""
        volume = self.volume(class_name, pod, identity)
        start = time.perf_counter()
        await self.stack.driver.publish(volume)
        return time.perf_counter() - start

    async def publish_as_kubelet(
        self, class_name: str, pod: int, *, identity: int, deadline: float
    ) -> bool:
        """Publish until it succeeds, with kubelet's pauses; False when that took too long."""
        pause = KUBELET_INITIAL_BACKOFF
        while time.perf_counter() < deadline:
            try:
                async with asyncio.timeout(deadline - time.perf_counter()):
                    await self.publish(class_name, pod, identity=identity)
            except (grpc.aio.AioRpcError, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, KUBELET_MAX_BACKOFF)
            else:
                return True
        return False

    async def unpublish(self, class_name: str, pod: int) -> float:
        """Unpublish the volume; return the duration in seconds."""
        volume = self.volumes[class_name, pod]
        start = time.perf_counter()
        await self.stack.driver.unpublish(volume)
        return time.perf_counter() - start

    async def unpublish_all(self) -> None:
        """Unpublish all volumes, with retries: a volume of upstream may be busy."""

        async def leave(class_name: str, pod: int) -> None:
            while True:
                try:
                    await self.unpublish(class_name, pod)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(KUBELET_INITIAL_BACKOFF)
                else:
                    return

        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(leave(*which) for which in self.volumes))
        self.volumes.clear()

    def volume(self, class_name: str, pod: int, identity: int) -> Volume:
        """The volume of a pod, the same one each time."""
        if (class_name, pod) not in self.volumes:
            uid = self.uids[pod]
            volumes = self.stack.folder / "pods" / uid / "volumes" / "kubernetes.io~csi"
            path = volumes / class_name / "mount"
            path.parent.mkdir(parents=True, exist_ok=True)
            sign_in = self.credentials_of(identity)
            self.volumes[class_name, pod] = Volume(
                class_name,
                f"web-{pod}",
                uid,
                path,
                context=sign_in.context,
                secrets=sign_in.secrets,
                namespace=self.contender.pairing.name,
            )
        return self.volumes[class_name, pod]

    def usage(self) -> ProcessUsage:
        """Of all its processes."""
        return process_usage(child.pid for child in self.stack.processes)


@dataclass
class Arena:
    """See above.

    Attributes:
        api: the Kubernetes API.
        vault: what everybody reads.
        children: all processes.
        folder: everything.
        upstream_programs: the programs.
        load_vault: the program of the vault.
    """

    api: ApiServer
    vault: LoadVault
    children: Children
    folder: Path
    upstream_programs: UpstreamPrograms
    load_vault: Path
    uids: dict[str, dict[int, str]] = field(default_factory=dict)
    _stack_numbers: Iterable[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def contender(
        self,
        contender: Contender,
        *flags: str,
        vault: CountingVault | None = None,
        credentials_of: Callable[[int], PodCredentials] = service_principal,
    ) -> AsyncIterator[RunningContender]:
        """Fresh processes of a contender, with these flags of the driver; they end with it.

        Args:
            contender: whose.
            flags: of the driver.
            vault: that is counted, if not the one of the arena.
            credentials_of: how the pods of each identity sign in.
        """
        folder = self.folder / f"s{next(iter(self._stack_numbers))}"
        ground = Ground(
            self.children,
            folder,
            kubeconfig=self.api.kubeconfig,
            ca=self.vault.ca,
            upstream=self.upstream_programs,
            driver_flags=flags,
            keyferry=contender.keyferry,
            # As where it is installed: its modules are compiled once.
            variables={
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(self.folder / "compiled" / contender.name),
            },
        )
        start = time.perf_counter()
        stack = await start_stack(contender.pairing, ground)
        uids = self.uids[contender.pairing.name]
        seconds = time.perf_counter() - start
        running = RunningContender(
            contender, stack, vault or self.vault, uids, seconds, credentials_of
        )
        try:
            await running.vault.reset_counts()
            yield running
        finally:
            await stack.driver.close()
            for child in stack.processes:
                child.end()
            unmount_below(folder)

    async def create_objects(self, spcs: Mapping[str, tuple[str, int]]) -> None:
        """Create the kinds, the pods, and the classes.

        Args:
            spcs: by name, what the names of its objects begin with, and how many there are.
        """
        await self.api.kubectl("apply", f"--filename={CRDS}")
        established = ("--for=condition=Established", "--timeout=60s", f"--filename={CRDS}")
        await self.api.kubectl("wait", *established)
        for pairing in (ALL_UPSTREAM, ALL_KEYFERRY):
            namespace = pairing.name
            await self.api.kubectl("create", "namespace", namespace)
            await self.api.kubectl("create", "serviceaccount", "web", f"--namespace={namespace}")
            documents = [spc_manifest(name, namespace, *of) for name, of in spcs.items()]
            documents += [pod_manifest(f"web-{pod}", namespace, "node") for pod in range(PODS)]
            text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper)
            await self.api.kubectl("create", "--filename=-", stdin=text)
            pods = await self.api.kubectl.get("pods", f"--namespace={namespace}")
            self.uids[namespace] = {
                int(pod["metadata"]["name"].removeprefix("web-")): pod["metadata"]["uid"]
                for pod in pods["items"]
            }


def spc_manifest(
    name: str,
    namespace: str,
    prefix: str,
    count: int,
    *,
    vault: str = VAULT,
    tenant: str = "tenant",
) -> Document:
    """A SecretProviderClass with `n` secrets."""
    entries = [json.dumps(secret(f"{prefix}-{number}")) for number in range(count)]
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "provider": "azure",
            "parameters": {
                "keyvaultName": vault,
                "tenantID": tenant,
                "objects": json.dumps({"array": entries}),
            },
        },
    }


@asynccontextmanager
async def running_arena(
    folder: Path,
    upstream_programs: UpstreamPrograms,
    load_vault: Path,
    spcs: Mapping[str, tuple[str, int]],
    *api_flags: str,
) -> AsyncIterator[Arena]:
    """The vault and the API, furnished; everything ends with the block.

    Args:
        folder: takes everything; on a tmpfs, so that no disk is measured.
        upstream_programs: the programs.
        load_vault: the program.
        spcs: see `Arena.create_objects`.
        api_flags: further flags of kube-apiserver.
    """
    async with (
        running_api_server(folder / "api", *api_flags) as api,
        ending_children(folder / "output") as children,
        running_load_vault(load_vault, folder / "vault", children) as vault,
    ):
        arena = Arena(api, vault, children, folder, upstream_programs, load_vault)
        await arena.create_objects(spcs)
        try:
            yield arena
        finally:
            unmount_below(folder)
