"""`keyferry driver` as a process: start, status pages, orderly stop, and a wrong command line."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import grpc
import pytest

from keyferry import __version__
from keyferry.net.grpc_server import Context
from keyferry.proto import csi_pb2 as csi
from keyferry.proto import provider_v1alpha1_pb2 as wire
from keyferry.providers.api import encode_result
from tests.fakes.cli import ISOLATION, run_cli, start_cli
from tests.fakes.provider import external_provider, mount_result

SECONDS = 30
CLASS = {
    "apiVersion": "secrets-store.csi.x-k8s.io/v1",
    "kind": "SecretProviderClass",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"provider": "ext", "parameters": {"x": "y"}},
}


@dataclass
class Process:
    """A running driver.

    Attributes:
        home: of its sockets and folders.
        process: it.
        log: the lines that it has logged so far.
        metrics: where its status pages are.
    """

    home: Path
    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)
    metrics: str = ""

    async def wait_for(self, words: str) -> str:
        """The next line of the log that holds these words."""
        assert self.process.stderr is not None
        async with asyncio.timeout(SECONDS):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line)
                if words in line:
                    return line
        raise AssertionError("".join(self.log))

    async def end(self) -> int:
        """Its exit code, once it has ended."""
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    async def publish(self, class_name: str = "web") -> None:
        """Publish a volume of a SecretProviderClass."""
        message = csi.NodePublishVolumeRequest(
            volume_id="1",
            target_path=str(self.home / f"volume-{class_name}"),
            volume_capability=csi.VolumeCapability(),
            readonly=True,
            volume_context={
                "secretProviderClass": class_name,
                "csi.storage.k8s.io/pod.namespace": "shop",
                "csi.storage.k8s.io/pod.name": "web-0",
            },
        )
        async with grpc.aio.insecure_channel(f"unix:{self.home}/csi.sock") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/csi.v1.Node/NodePublishVolume"
            )
            await call(message.SerializeToString(), timeout=SECONDS)


@asynccontextmanager
async def running(home: Path, *flags: str) -> AsyncIterator[Process]:
    """A driver that is ready; killed at the end if it still runs."""
    (home / "manifests").mkdir()
    (home / "manifests" / "web.yaml").write_text(json.dumps(CLASS))
    process = await start_cli(
        "driver",
        f"--endpoint=unix://{home}/csi.sock",
        "--metrics-addr=127.0.0.1:0",
        f"--manifests={home}/manifests",
        f"--provider-volume={home}",
        "--volumes=folder",
        *ISOLATION,
        "--nodeid=node-1",
        *flags,
    )
    driver = Process(home, process)
    try:
        ready = await driver.wait_for('"ready"')
        found = re.search(r'metrics="([^"]+)"', ready)
        driver.metrics = found[1] if found else ""
        yield driver
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@dataclass
class Slow:
    """A provider that blocks a call until `released` is set."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _: wire.MountRequest, __: Context) -> wire.MountResponse:
        """Answer a mount."""
        self.entered.set()
        await self.released.wait()
        return encode_result(mount_result({"a": "late"}))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_first_signal_lets_calls_in_flight_finish(
    tmp_path: Path, number: signal.Signals
) -> None:
    """New calls are rejected; then the process removes its socket and exits with 0."""
    slow = Slow()
    async with external_provider(tmp_path / "ext.sock", slow), running(tmp_path) as driver:
        call = asyncio.create_task(driver.publish())
        await asyncio.wait_for(slow.entered.wait(), SECONDS)
        driver.process.send_signal(number)
        await driver.wait_for("stopping")
        assert not call.done()
        slow.released.set()
        await call
        assert 0 == await driver.end()
    assert b"late" == (tmp_path / "volume-web" / "a").read_bytes()
    assert not (tmp_path / "csi.sock").exists()


async def test_second_signal_exits_at_once(tmp_path: Path) -> None:
    """With exit code 1, whatever is in flight."""
    slow = Slow()
    async with external_provider(tmp_path / "ext.sock", slow), running(tmp_path) as driver:
        call = asyncio.create_task(driver.publish())
        await asyncio.wait_for(slow.entered.wait(), SECONDS)
        driver.process.send_signal(signal.SIGTERM)
        await driver.wait_for("stopping")
        driver.process.send_signal(signal.SIGTERM)
        assert 1 == await driver.end()
        await asyncio.wait([call])
        assert isinstance(call.exception(), grpc.aio.AioRpcError)


async def test_driver_serves_metrics_and_health(tmp_path: Path) -> None:
    """In the Prometheus format; the CSI socket is accessible to its owner only."""
    async with (
        external_provider(tmp_path / "ext.sock"),
        running(tmp_path) as driver,
        aiohttp.ClientSession() as http,
    ):
        await driver.publish()
        async with http.get(f"http://{driver.metrics}/metrics") as response:
            text = await response.text()
            assert "text/plain; version=0.0.4; charset=utf-8" == response.headers["Content-Type"]
        assert 'node_publish_total{os_type="linux",provider="ext"} 1.0' in text
        assert "process_resident_memory_bytes" in text
        async with http.get(f"http://{driver.metrics}/healthz") as response:
            assert (200, "ok\n") == (response.status, await response.text())
        async with http.get(f"http://{driver.metrics}/other") as response:
            assert 404 == response.status
        assert 0o600 == stat.S_IMODE((tmp_path / "csi.sock").stat().st_mode)


async def test_socket_of_a_killed_driver_is_replaced(tmp_path: Path) -> None:
    """The new process can serve on it."""
    async with running(tmp_path) as driver:
        driver.process.kill()
        await driver.end()
        assert (tmp_path / "csi.sock").exists()
    (tmp_path / "manifests" / "web.yaml").unlink()
    (tmp_path / "manifests").rmdir()
    async with external_provider(tmp_path / "ext.sock"), running(tmp_path) as driver:
        await driver.publish()


async def test_development_settings_and_ignored_flags_are_logged(
    tmp_path: Path,
) -> None:
    """One warning each, before the driver is ready; in JSON on request."""
    (tmp_path / "manifests").mkdir()
    process = await start_cli(
        "driver",
        f"--endpoint=unix://{tmp_path}/csi.sock",
        "--metrics-addr=127.0.0.1:0",
        f"--manifests={tmp_path}/manifests",
        "--volumes=folder",
        *ISOLATION,
        "--log_dir=/x",
        "--log-format-json",
    )
    driver = Process(tmp_path, process)
    try:
        await driver.wait_for("ready")
        lines = [json.loads(line) for line in driver.log]
        warnings = [line for line in lines if line["level"] == "warning"]
        assert 2 == len(warnings)
        assert ("flag has no effect", "--log_dir") == (
            warnings[0]["message"],
            warnings[0]["flag"],
        )
        assert "private folders on disk, not tmpfs" in warnings[1]["message"]
    finally:
        process.terminate()
        await process.communicate()
    assert 0 == process.returncode


async def test_version_is_one_line_of_json() -> None:
    """Keys and order are those of upstream."""
    done = await run_cli("driver", "--version")
    assert (0, "") == (done.exit_code, done.stderr)
    assert ["BuildVersion", "GitCommit", "BuildDate"] == list(json.loads(done.stdout))
    assert f"v{__version__}" == json.loads(done.stdout)["BuildVersion"]
    assert 1 == len(done.stdout.splitlines())


async def test_help_lists_every_flag() -> None:
    """With exit code 0."""
    done = await run_cli("driver", "--help")
    assert (0, "") == (done.exit_code, done.stderr)
    assert "--rotation-poll-interval" in done.stdout
    assert "(default unix://tmp/csi.sock)" in done.stdout


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--no-such-flag"], 2, "flag provided but not defined: -no-such-flag"),
        (["--enable-secret-rotation", "true"], 2, "unexpected argument 'true'"),
        (["--rotation-poll-interval=2"], 2, "write a duration such as 30s"),
        (["--endpoint=/csi/csi.sock"], 2, "invalid endpoint: '/csi/csi.sock'"),
        (["--metrics-addr=8095"], 2, "invalid address '8095' for --metrics-addr"),
        (["--builtin-providers=azur"], 2, "unknown provider 'azur'. Available: azure"),
        (["--metrics-backend=statsd"], 2, "unsupported metrics backend"),
        (["--token-proxy-url=http://a"], 2, "--token-proxy-url is not an https URL"),
        (["--isolation=some"], 2, "--isolation is 'some'. Set it to process or none."),
        (["--dev-vault=/nonexistent"], 4, "the development vault at /nonexistent is not running"),
        (["--manifests=", "--nodeid=n", "--kubeconfig=/none/x"], 1, "Check --kubeconfig."),
        (["--manifests="], 2, "--nodeid is empty, and the driver uses the Kubernetes API"),
        (["--registration-dir=/x"], 2, "--registration-dir requires --nodeid"),
        (["--manifests=/nonexistent"], 2, "--manifests cannot be used: /nonexistent does not ex"),
        (["--manifests=/dev/null"], 2, "/dev/null is neither a file nor a folder"),
        (["--manifests=/etc/passwd"], 2, "/etc/passwd is a file. Create the folder, or set"),
        ([f"--manifests=/{'x' * 300}"], 2, "cannot be read: File name too long"),
    ],
)
async def test_invalid_command_line_is_one_message_without_traceback(
    tmp_path: Path, flags: list[str], code: int, words: str
) -> None:
    """Exit code 2 for an invalid flag, and 1 for what this machine does not have."""
    done = await run_cli(
        "driver",
        f"--endpoint=unix://{tmp_path}/csi.sock",
        "--metrics-addr=127.0.0.1:0",
        f"--manifests={tmp_path}",
        "--volumes=folder",
        *ISOLATION,
        *flags,
    )
    assert (code, "") == (done.exit_code, done.stdout)
    assert words in done.stderr.replace("\nhint: ", ". ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "csi.sock").exists()


async def test_unusable_port_and_socket_path_name_the_flag(
    tmp_path: Path,
) -> None:
    """For a port in use, and a file at the path of the socket."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    common = (f"--manifests={tmp_path}", "--volumes=folder", *ISOLATION)
    done = await run_cli(
        "driver", f"--endpoint=unix://{tmp_path}/s", f"--metrics-addr=127.0.0.1:{port}", *common
    )
    server.close()
    await server.wait_closed()
    assert 1 == done.exit_code
    assert f"failed to serve status on '127.0.0.1:{port}'" in done.stderr
    assert "--metrics-addr" in done.stderr
    (tmp_path / "s").write_text("kept")
    done = await run_cli(
        "driver", f"--endpoint=unix://{tmp_path}/s", "--metrics-addr=127.0.0.1:0", *common
    )
    assert 1 == done.exit_code
    assert f"failed to listen on {tmp_path}/s: path exists and is not a socket" in done.stderr
    assert "kept" == (tmp_path / "s").read_text()


async def test_driver_is_not_ready_while_its_manifests_cannot_be_used(tmp_path: Path) -> None:
    """It could mount nothing; it is healthy, because a restart would not help."""
    async with running(tmp_path) as driver, aiohttp.ClientSession() as client:

        async def status(page: str) -> int:
            async with client.get(f"http://{driver.metrics}/{page}") as response:
                return response.status

        assert 200 == await status("readyz")
        (tmp_path / "manifests").rename(tmp_path / "moved")
        assert (503, 200) == (await status("readyz"), await status("healthz"))
        (tmp_path / "moved").rename(tmp_path / "manifests")
        assert 200 == await status("readyz")
