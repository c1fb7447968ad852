"""The environment of the demo: a private folder, two processes, and a client in place of kubelet.

Leaving it removes the volume, the processes and the folder, also after an error or an interrupt,
unless the environment is kept. `stop_kept` removes a kept environment.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Self

from keyferry.driver.volumes.mounter import DirectoryMounter, TmpfsMounter
from keyferry.errors import InternalError, KeyferryError, ProviderReportedError, RequestInvalidError
from keyferry.formats.mountinfo import mount_points
from keyferry.net.sockets import MAX_SOCKET_PATH_BYTES
from keyferry.process import can_mount
from keyferry.proto import csi_pb2 as csi
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SPC_ATTRIBUTE,
)
from keyferry_devvault.cli.server import devvault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

    import grpc

_START_SECONDS = 20.0
_STOP_SECONDS = 30.0
"""Long enough for a driver that a busy machine has not started completely."""
_CALL_SECONDS = 30.0
_LONGEST_SOCKET_PATH = "/keyferry-demo-12345678/csi/csi.sock"
_POD_UID = "d3a0d3a0-0000-4000-8000-000000000001"
_TARGET = f"pods/{_POD_UID}/volumes/kubernetes.io~csi/secrets/mount"
_SOCKET = "csi/csi.sock"
_PROCESSES_FILE = "processes.json"
"""Process IDs by name, in the order in which they were started; only a kept demo has it."""


class DemoInterrupt(KeyboardInterrupt):
    """A signal interrupted the demo.

    A type of its own: after a KeyboardInterrupt in a string that `exec` runs, as many imports do,
    CPython ends with SIGINT and not with the exit code, also if the exception was handled.
    """


class Interrupts:
    """Turns SIGINT and SIGTERM into `DemoInterrupt`, but never while a process is started.

    An exception between the fork and the line that records the new process would leave it running.
    """

    def __init__(self) -> None:
        self._deferring = False
        self._pending = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer an interrupt until the block ends."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._pending:
            self._pending = False
            raise DemoInterrupt

    def ignore(self) -> None:
        """Ignore all further interrupts, so that the cleanup is complete."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        if not self._deferring:
            raise DemoInterrupt
        self._pending = True


class DemoEnvironment:
    """The processes and files of the demo.

    Args:
        interrupts: defers interrupts while a process is started.

    Attributes:
        folder: the private folder that contains the others.
        vault: the data folder of the emulator.
        spc: the file of the SecretProviderClass.
        manifests: the folder of the manifests store.
        target: the path of the volume, as kubelet chooses it.
        tmpfs: whether the volume is a tmpfs.
        socket: the CSI socket of the driver.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self.folder = _new_folder()
        self.vault = self.folder / "vault"
        self.spc = self.folder / "secretproviderclass.yaml"
        self.manifests = self.folder / "manifests"
        self.manifests.mkdir()
        self.target = self.folder / _TARGET
        self.tmpfs = can_mount()
        self.socket = self.folder / _SOCKET
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._kept and error is None:
            return
        self._interrupts.ignore()
        self.stop()
        mounts = TmpfsMounter() if self.tmpfs else DirectoryMounter()
        mounts.unmount(self.target)
        shutil.rmtree(self.folder)

    def keep(self) -> None:
        """Leave everything as it is when the block ends without an error."""
        pids = {name: process.pid for name, process in self._processes.items()}
        (self.folder / _PROCESSES_FILE).write_text(json.dumps(pids))
        self._kept = True

    def vault_arguments(self) -> tuple[str, ...]:
        """Return the arguments of the emulator."""
        return ("devvault", "run", "--quiet", "--data", str(self.vault))

    def start_vault(self) -> None:
        """Start the emulator and wait until it listens."""
        self._start("vault", *self.vault_arguments())
        self._wait_for("vault", self.vault / "connection.json")

    def devvault(self, *arguments: str) -> None:
        """Run a command of `keyferry devvault` in this process, which is faster than a new one."""
        with self._interrupts.deferred(), redirect_stdout(StringIO()):
            devvault.main(
                [*arguments, "--data", str(self.vault)],
                prog_name="keyferry devvault",
                standalone_mode=False,
            )

    def driver_arguments(self) -> tuple[str, ...]:
        """Return the arguments of the driver."""
        return (
            "driver",
            f"--endpoint=unix://{self.socket}",
            "--nodeid=this-machine",
            f"--manifests={self.manifests}",
            f"--dev-vault={self.vault}",
            "--enable-secret-rotation",
            "--rotation-poll-interval=0s",
            "--metrics-addr=127.0.0.1:0",
            *(() if self.tmpfs else ("--volumes=folder", "--isolation=none")),
        )

    def start_driver(self) -> None:
        """Start the driver and wait until its socket exists."""
        self._start("driver", *self.driver_arguments())
        import grpc  # noqa: F401 - while the driver starts, because it takes long

        self._wait_for("driver", self.socket)

    def publish(self, *, class_name: str, pod: str) -> None:
        """Call NodePublishVolume as kubelet does.

        Raises:
            ProviderReportedError: the driver returned an error, which has its text.
        """
        _call(
            self.socket,
            "NodePublishVolume",
            csi.NodePublishVolumeRequest(
                volume_id="csi-demo",
                target_path=str(self.target),
                volume_capability=csi.VolumeCapability(mount=csi.VolumeCapability.MountVolume()),
                readonly=True,
                volume_context={
                    SPC_ATTRIBUTE: class_name,
                    POD_NAMESPACE: "default",
                    POD_NAME: pod,
                    POD_UID: _POD_UID,
                },
            ),
        )

    def unpublish(self) -> None:
        """Call NodeUnpublishVolume as kubelet does."""
        _unpublish(self.socket, self.target)

    def secret(self, namespace: str, name: str) -> Path:
        """Return the path of the manifest of a Kubernetes Secret."""
        return self.manifests / "secrets" / namespace / f"{name}.yaml"

    def leftovers(self) -> list[str]:
        """Return what still exists: folder and mount of the volume, Secrets, pod statuses."""
        leftovers = [str(self.target)] if self.target.exists() else []
        mounts = Path("/proc/self/mounts").read_text()
        leftovers += [line for line in mounts.splitlines() if str(self.folder) in line]
        for kind in ("secrets", "secretproviderclasspodstatuses"):
            leftovers += [str(path) for path in (self.manifests / kind).rglob("*.yaml")]
        return leftovers

    def pid(self, name: str) -> int:
        """Return the process ID of `vault` or `driver`."""
        return self._processes[name].pid

    def stop(self) -> None:
        """Stop the processes, the driver first: with SIGTERM, after a time limit with SIGKILL."""
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log, self._interrupts.deferred():
            # A session of its own: Ctrl-C reaches only the demo, which stops both in order.
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own program
                [*_KEYFERRY, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_for(self, name: str, path: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not path.exists():
            if self._processes[name].poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{name}.log").read_text().strip()
                raise InternalError(f"the {name} did not start: {log or 'its log is empty'}")
            time.sleep(0.01)


def stop_kept(folder: Path) -> None:
    """Unpublish the volume of a kept demo, stop its processes and remove its folder.

    Raises:
        RequestInvalidError: the folder is not that of a kept demo.
    """
    try:
        pids: dict[str, int] = json.loads((folder / _PROCESSES_FILE).read_text())
    except (OSError, ValueError) as error:
        raise RequestInvalidError(
            f"{folder} is not the folder of a demo that was started with --keep",
            "Use the folder that the demo printed as DEMO=...",
        ) from error
    with suppress(KeyferryError):  # such as a driver that no longer runs
        _unpublish(folder / _SOCKET, folder / _TARGET)
    for pid in reversed(pids.values()):
        _stop_process(pid, folder)
    for mount in mount_points():
        if Path(mount.path).is_relative_to(folder):
            TmpfsMounter().unmount(Path(mount.path))
    shutil.rmtree(folder)


def _stop_process(pid: int, folder: Path) -> None:
    """Stop a process of the demo in `folder`, unless it has ended: its ID may belong to another."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes():
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], _STOP_SECONDS)[0]:
                    break
    except (ProcessLookupError, FileNotFoundError):
        return  # it has just ended
    finally:
        os.close(handle)


def _unpublish(socket: Path, target: Path) -> None:
    message = csi.NodeUnpublishVolumeRequest(volume_id="csi-demo", target_path=str(target))
    _call(socket, "NodeUnpublishVolume", message)


def _call(
    socket: Path,
    method: str,
    message: csi.NodePublishVolumeRequest | csi.NodeUnpublishVolumeRequest,
) -> None:
    import grpc

    with grpc.insecure_channel(f"unix:{socket}") as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/csi.v1.Node/{method}"
        )
        try:
            call(message.SerializeToString(), timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            raise _call_error(method, error) from error


def _new_folder() -> Path:
    """Create a private folder, in /tmp if the default one has too long a path for sockets."""
    default = Path(tempfile.gettempdir())
    fits = len(os.fsencode(default)) + len(_LONGEST_SOCKET_PATH) <= MAX_SOCKET_PATH_BYTES
    return Path(tempfile.mkdtemp(prefix="keyferry-demo-", dir=default if fits else "/tmp"))  # noqa: S108


def _call_error(method: str, error: grpc.RpcError) -> KeyferryError:
    details, code = error.details(), error.code()
    return ProviderReportedError(
        f"{method} failed: {details}", code=code.value[0], reason="GRPCProviderError"
    )


_KEYFERRY = (sys.executable, "-m", "keyferry")
