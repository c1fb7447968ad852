"""containerd for one cluster, with its state, sockets and containers in one folder."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.e2e.children import Child, Children
from tests.e2e.cluster.images import IMAGES, PAUSE, Image, write_archive
from tests.e2e.cluster.network import PLUGINS, kept_networks
from tests.e2e.cluster.programs import Programs
from tests.e2e.cluster.waiting import eventually, must_run

_CALL_SECONDS = 60
_NAMESPACE = "k8s.io"

_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.restart",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{folder}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
stream_server_address = "127.0.0.1"
netns_mounts_under_state_dir = true
# Without CAP_SYS_RESOURCE no process may be made less likely to be killed than containerd itself.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
Root = "{folder}/runc"
"""


class Containerd:
    """A running containerd.

    Attributes:
        socket: where it listens.
    """

    def __init__(self, folder: Path, child: Child) -> None:
        self.socket = folder / "containerd.sock"
        self._folder = folder
        self._child = child

    async def ctr(self, *arguments: str) -> str:
        """Call ctr in the containerd namespace of Kubernetes.

        Raises:
            AssertionError: the call failed; the message contains its standard error.
        """
        command = [
            Programs.of_system("ctr"),
            f"--address={self.socket}",
            f"--namespace={_NAMESPACE}",
            *arguments,
        ]
        run = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CALL_SECONDS,
        )
        assert 0 == run.returncode, f"ctr {' '.join(arguments)}: {run.stderr}"
        return run.stdout

    async def load(self, archive: Path) -> None:
        """Load the image from an archive; pods use it with `imagePullPolicy: Never`."""
        await self.ctr("images", "import", str(archive))

    async def make(self, image: Image) -> None:
        """Create an image and load it."""
        archive = self._folder / "image.tar"
        await self.load(await asyncio.to_thread(write_archive, archive, image))
        archive.unlink()

    async def ready(self) -> bool:
        """Return True if containerd responds."""
        must_run(self._child)
        await self.ctr("version")
        return True

    async def end_containers(self) -> None:
        """Kill every container; the shims stop and remove their sockets."""
        for task in (await self.ctr("tasks", "list", "--quiet")).split():
            with suppress(AssertionError):
                await self.ctr("tasks", "delete", "--force", task)

    def shims(self) -> list[int]:
        """The process IDs of the shims of this containerd."""
        address = os.fsencode(self.socket)
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and address in _arguments(folder) and _is_shim(folder)
        ]


@asynccontextmanager
async def running_containerd(
    children: Children, folder: Path, *, cni: Path
) -> AsyncIterator[Containerd]:
    """Run containerd with the images of the tests; on exit, kill its containers.

    Args:
        children: stop containerd itself.
        folder: for all its state; a short path, because it contains sockets.
        cni: the folder of network configurations.
    """
    folder.mkdir()
    config = folder / "config.toml"
    runc = Programs.of_system("runc")
    config.write_text(
        _CONFIG.format(folder=folder, pause=PAUSE, plugins=PLUGINS, cni=cni, runc=runc)
    )
    child = children.start("containerd", Programs.of_system("containerd"), f"--config={config}")
    containerd = Containerd(folder, child)
    try:
        await eventually(containerd.ready, "containerd to answer")
        for image in IMAGES:
            await containerd.make(image)
        yield containerd
    finally:
        with suppress(AssertionError, subprocess.TimeoutExpired):
            await containerd.end_containers()
        for shim in containerd.shims():
            with suppress(ProcessLookupError):
                os.kill(shim, signal.SIGKILL)
        for kept in kept_networks(cni.parent):
            kept.unlink(missing_ok=True)


def _arguments(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_shim(process: Path) -> bool:
    return b"containerd-shim" in b"".join(_arguments(process)[:1])
