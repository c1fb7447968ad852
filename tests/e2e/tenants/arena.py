"""A node that an attacker and a victim share: a driver process, and kubelet's calls for both.

async with running_arena(tmp_path, show) as arena:
    attacker = arena.attacker
    attacker.put_class("evil", objects=[entry("a", "bytes/1000000/a", "value")])
    async with arena.attack():
        errors = await arena.publish_repeatedly([attacker.pod("evil")], seconds=3)

`attack` starts the driver and a victim that publishes all the time. At its end, no publish of the
victim has failed or waited too long, and the driver ends after SIGTERM.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import yaml

from keyferry.providers.known_fields.attributes import SERVICE_ACCOUNT
from tests.e2e.children import Children, ending_children
from tests.e2e.node import BareNode, Driver, Volume
from tests.e2e.tenants.victim import Record, undisturbed
from tests.e2e.vault.classes import Entry, entry
from tests.fakes.mounts import unmount_below

VICTIM, ATTACKER = "victim", "attacker"
VICTIM_VALUE = "value-of-the-victim"
KUBELET_SECONDS = 15.0
"""Timeout of the attacker's calls, instead of two minutes as in kubelet."""

UNANSWERED = "no answer in time"

_RETRY_SECONDS = 0.3
_SERVER = Path(__file__).with_name("scripted_vault.py")

A = TypeVar("A", bound="Arena")
NewVolume = Callable[[], tuple[Volume, dict[str, bytes]]]


class Tenant:
    """A namespace, with what a user of it can do.

    Args:
        node: the node of its Pods.
        namespace: its name.
        address: the address of its vault, see `scripted_vault.py`.
    """

    def __init__(self, node: BareNode, namespace: str, address: str) -> None:
        self._node = node
        self.namespace = namespace
        self.address = address
        self._count = 0

    def put_class(
        self,
        name: str,
        *objects: Entry,
        provider: str = "openbao",
        parameters: Mapping[str, str] | None = None,
        secret_objects: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """Write a SecretProviderClass; by default of the tenant's own vault."""
        spec: dict[str, object] = {
            "provider": provider,
            "parameters": {**self._defaults(objects, provider), **(parameters or {})},
        }
        if secret_objects:
            spec["secretObjects"] = [dict(one) for one in secret_objects]
        self._node.put_class(name, spec, namespace=self.namespace)

    def _defaults(self, objects: Sequence[Entry], provider: str) -> Mapping[str, str]:
        if provider == "azure":
            return {}
        return {
            "vaultAddress": self.address,
            "vaultAuthMethod": "token",
            "objects": yaml.safe_dump(list(objects)),
        }

    def pod(
        self,
        class_name: str,
        *,
        account: str = "web",
        context: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Volume:
        """Return the volume of a new Pod."""
        self._count += 1
        return self._node.volume(
            class_name,
            pod=f"{class_name}-{self._count}",
            context={SERVICE_ACCOUNT: account, **(context or {})},
            secrets={"token": "t"} if secrets is None else secrets,
            namespace=self.namespace,
        )

    def folder_in_pod(self, volume: Volume, kind: str = "empty-dir", name: str = "e") -> Path:
        """Create the folder of another volume of the same Pod, as kubelet does; return it."""
        folder = volume.path.parents[2] / f"kubernetes.io~{kind}" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Arena(BareNode):
    """The node.

    Attributes:
        attacker: the tenant that attacks.
        victim: the tenant beside it.
        files: the folder of the attacker's vault, whose files it serves.
        class_files: the folder of files that SecretProviderClasses may name. It is not beside the
            socket of the driver, because the provider worker does not see that folder.
        driver: the running driver, within `attack`.
        show: adds a line to the figures of the report.
    """

    driver: Driver

    def __init__(
        self, folder: Path, children: Children, show: Callable[[str], None], *, own: str, other: str
    ) -> None:
        super().__init__(folder, children)
        self.attacker = Tenant(self, ATTACKER, own)
        self.victim = Tenant(self, VICTIM, other)
        self.files = folder / "served"
        self.class_files = folder.parent / "class-files"
        self.class_files.mkdir()
        self.show = show
        self._pods = 0
        self.victim.put_class("honest", entry("db", f"value/{VICTIM_VALUE}", "value"))

    def victim_volume(self) -> tuple[Volume, dict[str, bytes]]:
        """Return a volume of a new Pod of the victim, and its files. Each reads from the vault."""
        self._pods += 1
        volume = self.victim.pod(
            "honest", account=f"web-{self._pods}", secrets={"token": f"token-{self._pods}"}
        )
        return volume, {"db": VICTIM_VALUE.encode()}

    def driver_flags(self) -> list[str]:
        """Return the flags of `keyferry driver` for this node."""
        return [
            *super().driver_flags(),
            f"--class-files-dirs={self.class_files}",
            f"--kubelet-dir={self.pods}",
        ]

    @asynccontextmanager
    async def attack(
        self, *flags: str, victim: NewVolume | None = None, after: float = 0.0
    ) -> AsyncIterator[Record]:
        """Start the driver and the victim for the block; assert that both survive it.

        Args:
            flags: more flags of the driver.
            victim: returns the volumes of the victim; by default they read from a vault that the
                attacker does not use.
            after: seconds for which the attacker is alone. A success of the victim could close a
                circuit breaker again.
        """
        self.driver = await self.start_driver(*flags)
        volumes = victim or self.victim_volume
        async with undisturbed(self.driver, volumes, self.show, after=after) as record:
            yield record
        if replaced := self.replacements():
            self.show(f"replaced: {', '.join(replaced)}")
        await self.driver.stop()

    def replacements(self) -> list[str]:
        """Return why child processes were replaced, such as `parser: ended`."""
        pattern = re.compile(r'"child process replaced" process="(.*?)" reason="(.*?)"')
        return [": ".join(found) for found in pattern.findall(self.driver.child.text())]

    def mount_options(self, volume: Volume) -> set[str]:
        """Return the options of the mount of a volume and of its file system."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        (line,) = [each for each in lines if each.split(" ")[4] == str(volume.path)]
        return {*line.split(" ")[5].split(","), *line.rpartition(" ")[2].split(",")}

    async def publish(self, volume: Volume, *, seconds: float = KUBELET_SECONDS) -> str:
        """Publish a volume; return the error, or "" if it succeeds."""
        try:
            async with asyncio.timeout(seconds):
                await self.driver.publish(volume)
        except TimeoutError:
            return UNANSWERED
        except grpc.aio.AioRpcError as error:
            return str(error.details())
        return ""

    async def unpublish(self, volume: Volume) -> str:
        """Unpublish a volume; return the error, or "" if it succeeds."""
        try:
            async with asyncio.timeout(KUBELET_SECONDS):
                await self.driver.unpublish(volume)
        except TimeoutError:
            return UNANSWERED
        except grpc.aio.AioRpcError as error:
            return str(error.details())
        return ""

    async def publish_repeatedly(
        self,
        volumes: Sequence[Volume],
        *,
        seconds: float,
        growth: float = 1.0,
        answer: float = 0.0,
    ) -> list[str]:
        """Publish all volumes at once, each again and again until the time is over.

        Args:
            volumes: the volumes.
            seconds: the time.
            growth: factor between the pauses; kubelet doubles them, except for new Pods.
            answer: seconds that each call may take; by default until the time is over.

        Returns:
            The distinct results: error texts, and "" for success.
        """
        results: set[str] = set()

        async def retry(volume: Volume) -> None:
            end, pause = time.monotonic() + seconds, _RETRY_SECONDS
            while (left := end - time.monotonic()) > 0:
                patience = max(left, answer)
                result = await self.publish(volume, seconds=patience)
                if result != UNANSWERED or patience > seconds / 2:
                    results.add(result)
                await asyncio.sleep(min(pause, max(0.0, end - time.monotonic())))
                pause *= growth

        await asyncio.gather(*map(retry, volumes))
        return sorted(results)


@asynccontextmanager
async def running_arena(
    folder: Path, show: Callable[[str], None], kind: type[A]
) -> AsyncIterator[A]:
    """Run the vaults of both tenants; on exit, kill all processes and unmount all volumes."""
    served = folder / "served"
    served.mkdir(parents=True)
    # The providers run as another user, who may read only what SecretProviderClasses may name.
    for each in (folder, folder.parent):
        each.chmod(0o755)
    try:
        async with ending_children(folder / "output") as children:
            ports = []
            for name in (ATTACKER, VICTIM):
                child = children.start(
                    f"vault-of-{name}", sys.executable, str(_SERVER), str(served)
                )
                ports.append((await child.says(r"listens on (\d+)"))[1])
            own, other = (f"http://127.0.0.1:{port}" for port in ports)
            arena = kind(folder, children, show, own=own, other=other)
            try:
                yield arena
            finally:
                await arena.close()
    finally:
        unmount_below(folder)
