"""Where the contenders are measured: one vault, one Kubernetes API, a fresh stack for each load.

async with running_arena(folder, programs) as arena:
    async with arena.contender(UPSTREAM) as running:
        seconds = await running.publish("n20-1", pod=0)
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import yaml

from bench import runs
from bench.load_vault import VAULT, LoadVault, running_load_vault
from bench.memory_group import MemoryGroup, memory_group
from bench.processes import ProcessUsage, cpu_seconds, process_usage
from tests.compat.cases import pod_manifest, secret
from tests.compat.comparison import CRDS
from tests.compat.stacks import (
    ALL_KEYFERRY,
    ALL_UPSTREAM,
    Ground,
    Pairing,
    Side,
    Stack,
    start_stack,
)
from tests.compat.upstream import UpstreamPrograms
from tests.e2e.children import PATIENCE_SECONDS, Children, ending_children
from tests.e2e.cluster.api_server import ApiServer, running_api_server
from tests.e2e.cluster.kubectl import Document
from tests.e2e.node import Volume
from tests.fakes.mounts import unmount_below

Resource = TypeVar("Resource")

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
_SETTLE_PAUSE_SECONDS = 0.5
_IDLE_CPU_SECONDS = 0.01
_MAX_SETTLE_PAUSES = 20


@dataclass(frozen=True)
class Contender:
    """One of those who are compared.

    Attributes:
        name: in the table.
        pairing: which stack it is.
        keyferry: path of the keyferry program.
        flags: of its driver.
    """

    name: str
    pairing: Pairing
    keyferry: str = str(Path(sys.executable).parent / "keyferry")
    flags: tuple[str, ...] = ()

    @property
    def is_keyferry(self) -> bool:
        """Whether it is Keyferry, with any flags."""
        return self.pairing.driver is Side.KEYFERRY


UPSTREAM = Contender(runs.UPSTREAM, ALL_UPSTREAM)
KEYFERRY = Contender(runs.KEYFERRY, ALL_KEYFERRY)
NO_ISOLATION = Contender(
    runs.NO_ISOLATION,
    Pairing("keyferry-none", Side.KEYFERRY, Side.KEYFERRY, built_in=True),
    flags=("--isolation=none",),
)


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
        started_cpu_seconds: CPU time that its processes had used then.
        loaded_seconds: from the start until a publish can be served; Keyferry may answer before.
        start: time of the start, see `time.perf_counter`.
        group: accounts for its memory; None if control groups cannot be used.
        credentials_of: how the pods of each identity sign in.
    """

    contender: Contender
    stack: Stack
    vault: CountingVault
    uids: Mapping[int, str]
    started_seconds: float
    started_cpu_seconds: float
    loaded_seconds: float
    start: float
    group: MemoryGroup | None = None
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

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far."""
        return cpu_seconds(child.pid for child in self.stack.processes)

    async def settle(self) -> float:
        """Wait until its processes need no CPU time; return the CPU time that they used so far."""
        before = self.cpu_seconds()
        for _ in range(_MAX_SETTLE_PAUSES):
            await asyncio.sleep(_SETTLE_PAUSE_SECONDS)
            now = self.cpu_seconds()
            if now - before <= _IDLE_CPU_SECONDS:
                return now
            before = now
        return before

    def memory(self) -> dict[str, float]:
        """Return memory in MiB: `mib` by its processes, `charged_mib` by its control group.

        `mib` is anonymous memory and mapped files, each page once. `charged_mib` also includes
        kernel memory and the files of volumes in tmpfs, as a container is charged for them.
        """
        usage = self.usage()
        if self.group is None:
            return {"mib": usage.rss_mib}
        charges = self.group.charges()
        charged = charges.anonymous + usage.file_mib + charges.kernel + charges.shared
        return {"mib": usage.rss_mib, "charged_mib": charged}


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
        contenders: who has pods.
        resources: exit with the arena.
    """

    api: ApiServer
    vault: LoadVault
    children: Children
    folder: Path
    upstream_programs: UpstreamPrograms
    load_vault: Path
    contenders: Sequence[Contender] = (UPSTREAM, KEYFERRY)
    uids: dict[str, dict[int, str]] = field(default_factory=dict)
    resources: AsyncExitStack = field(default_factory=AsyncExitStack)
    _once: dict[str, Any] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _stack_numbers: Iterable[int] = field(default_factory=itertools.count)

    async def once(
        self, name: str, make: Callable[[], AbstractAsyncContextManager[Resource]]
    ) -> Resource:
        """Return what `make` yields; it is made once, for all repeats of a load.

        Args:
            name: of the resource.
            make: its context, which exits with the arena.
        """
        if name not in self._once:
            self._once[name] = await self.resources.enter_async_context(make())
        found: Resource = self._once[name]
        return found

    def has_compiled(self, contender: Contender) -> bool:
        """Whether the contender ran before, so that its modules are compiled."""
        return contender.name in self._known

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
        with _memory_group() as group:
            async with self._started(contender, flags, folder, group) as running:
                running.vault = vault or self.vault
                running.credentials_of = credentials_of
                await running.vault.reset_counts()
                yield running
                self._known.add(contender.name)

    @asynccontextmanager
    async def _started(
        self,
        contender: Contender,
        flags: tuple[str, ...],
        folder: Path,
        group: MemoryGroup | None,
    ) -> AsyncIterator[RunningContender]:
        ground = Ground(
            self.children,
            folder,
            kubeconfig=self.api.kubeconfig,
            ca=self.vault.ca,
            upstream=self.upstream_programs,
            driver_flags=(*contender.flags, *flags),
            keyferry=_absolute(contender.keyferry),
            prefix=group.prefix if group else (),
            # As where it is installed: its modules are compiled once.
            variables={
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": str(self.folder / "compiled" / contender.name),
            },
        )
        start = time.perf_counter()
        stack = await start_stack(contender.pairing, ground)
        seconds = time.perf_counter() - start
        cpu = cpu_seconds(child.pid for child in stack.processes)
        if contender.is_keyferry:
            await stack.processes[0].says('"ready"')
        running = RunningContender(
            contender,
            stack,
            self.vault,
            self.uids[contender.pairing.name],
            seconds,
            cpu,
            time.perf_counter() - start,
            start,
            group,
        )
        try:
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
        for namespace in dict.fromkeys(one.pairing.name for one in self.contenders):
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


def _absolute(program: str) -> str:
    """Return the path of a command of the virtual environment, or the path itself."""
    installed = Path(sys.executable).parent / program
    return str(installed) if installed.exists() else program


@contextmanager
def _memory_group() -> Iterator[MemoryGroup | None]:
    """A memory group; None where this user cannot create one."""
    with ExitStack() as stack:
        try:
            group = stack.enter_context(memory_group())
        except OSError:
            group = None
        yield group


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
    contenders: Sequence[Contender] = (UPSTREAM, KEYFERRY),
) -> AsyncIterator[Arena]:
    """The vault and the API, furnished; everything ends with the block.

    Args:
        folder: takes everything; on a tmpfs, so that no disk is measured.
        upstream_programs: the programs.
        load_vault: the program.
        spcs: see `Arena.create_objects`.
        api_flags: further flags of kube-apiserver.
        contenders: who has pods.
    """
    async with (
        running_api_server(folder / "api", *api_flags) as api,
        ending_children(folder / "output") as children,
        running_load_vault(load_vault, folder / "vault", children) as vault,
    ):
        arena = Arena(api, vault, children, folder, upstream_programs, load_vault, contenders)
        await arena.create_objects(spcs)
        try:
            async with arena.resources:
                yield arena
        finally:
            unmount_below(folder)
