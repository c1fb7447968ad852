"""`keyferry driver` registers itself with kubelet, and says when it is ready."""

from __future__ import annotations

import asyncio
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
import pytest

from keyferry.proto import pluginregistration_pb2 as wire
from tests.fakes.cli import run_cli
from tests.integration.driver.test_process import Process, running

SECONDS = 20


class Kubelet:
    """What kubelet does with a socket in its folder of plugins."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    async def get_info(self) -> wire.PluginInfo:
        """Ask the plugin what it is."""
        return wire.PluginInfo.FromString(await self._call("GetInfo", b""))

    async def notify(self, *, registered: bool, error: str = "") -> None:
        """Notify the driver whether it was registered."""
        message = wire.RegistrationStatus(plugin_registered=registered, error=error)
        await self._call("NotifyRegistrationStatus", message.SerializeToString())

    async def _call(self, method: str, message: bytes) -> bytes:
        async with grpc.aio.insecure_channel(f"unix:{self.socket}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                f"/pluginregistration.Registration/{method}"
            )
            return await call(message, timeout=SECONDS, wait_for_ready=True)


@asynccontextmanager
async def registering(home: Path, *flags: str) -> AsyncIterator[tuple[Process, Kubelet]]:
    """A driver that registers itself, and the kubelet that finds its socket."""
    folder = home / "plugins"
    folder.mkdir()
    async with running(home, f"--registration-dir={folder}", *flags) as driver:
        yield driver, Kubelet(folder / "secrets-store.csi.k8s.io-reg.sock")


async def page(driver: Process, path: str) -> tuple[int, str]:
    """Status and text of a page."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://{driver.metrics}{path}") as it,
    ):
        return it.status, (await it.text()).strip()


async def test_kubelet_gets_name_socket_and_version(short_path: Path) -> None:
    """The values that kubelet needs of a CSI driver.

    Source: docs/reference/upstream-driver.md#plugin-registration
    """
    flags = "--kubelet-registration-path=/var/lib/kubelet/plugins/csi-secrets-store/csi.sock"
    async with registering(short_path, flags) as (_, kubelet):
        assert (
            wire.PluginInfo(
                type="CSIPlugin",
                name="secrets-store.csi.k8s.io",
                endpoint="/var/lib/kubelet/plugins/csi-secrets-store/csi.sock",
                supported_versions=["1.0.0"],
            )
            == await kubelet.get_info()
        )
        assert 0o600 == stat.S_IMODE(kubelet.socket.stat().st_mode)
        assert [kubelet.socket.name] == [each.name for each in kubelet.socket.parent.iterdir()]


async def test_registration_defaults_to_the_socket_of_the_endpoint(short_path: Path) -> None:
    """A driver outside of a container uses the same paths as kubelet."""
    async with registering(short_path) as (_, kubelet):
        assert f"{short_path}/csi.sock" == (await kubelet.get_info()).endpoint


async def test_driver_is_ready_once_registered(short_path: Path) -> None:
    """Before, it is healthy but not ready; the response says why, and a metric shows it."""
    async with registering(short_path) as (driver, kubelet):
        assert (200, "ok") == await page(driver, "/healthz")
        assert (503, "kubelet has not registered this driver yet") == await page(driver, "/readyz")
        await kubelet.notify(registered=True)
        assert (200, "ok") == await page(driver, "/readyz")
        assert 'keyferry_registered{os_type="linux"} 1.0' in (await page(driver, "/metrics"))[1]


async def test_rejected_registration_is_reported_and_the_driver_keeps_running(
    short_path: Path,
) -> None:
    """Kubelet retries; mounts in flight must not be aborted."""
    async with registering(short_path) as (driver, kubelet):
        await kubelet.notify(registered=False, error="no such socket")
        line = await driver.wait_for("kubelet rejected")
        assert line.startswith("E")
        assert "--kubelet-registration-path" in line
        assert (503, "kubelet rejected the registration: no such socket") == await page(
            driver, "/readyz"
        )
        await kubelet.notify(registered=True)
        assert (200, "ok") == await page(driver, "/readyz")


async def test_removed_registration_socket_is_recreated(short_path: Path) -> None:
    """Kubelet may clear its folder when it starts."""
    async with registering(short_path) as (driver, kubelet):
        await kubelet.notify(registered=True)
        kubelet.socket.unlink()
        await driver.wait_for("registration socket was removed, recreating")
        async with asyncio.timeout(SECONDS):
            while not kubelet.socket.exists():  # noqa: ASYNC110 - a file sends no notification
                await asyncio.sleep(0.01)
        assert "secrets-store.csi.k8s.io" == (await kubelet.get_info()).name
        status, text = await page(driver, "/readyz")
        assert (503, True) == (status, "is being recreated" in text)


async def test_registration_socket_is_removed_first_at_shutdown(short_path: Path) -> None:
    """Kubelet then sends no further calls."""
    async with registering(short_path) as (driver, kubelet):
        driver.process.send_signal(signal.SIGTERM)
        assert 0 == await driver.end()
        assert [] == list(kubelet.socket.parent.iterdir())


async def test_health_is_served_on_a_separate_port(short_path: Path) -> None:
    """Upstream's liveness port has health and readiness, but no metrics."""
    async with registering(short_path, "--health-addr=127.0.0.1:0") as (driver, _):
        assert 200 == (await page(driver, "/healthz"))[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--registration-dir=/x",), "--registration-dir requires --nodeid"),
        (("--startup-taint=x", "--manifests=/x", "--nodeid=n"), "--startup-taint requires"),
    ],
)
async def test_conflicting_flags_are_reported(flags: tuple[str, ...], said: str) -> None:
    """Before anything is served."""
    done = await run_cli("driver", *flags)
    assert 0 != done.exit_code
    assert said in done.stderr
