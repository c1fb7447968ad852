"""The start of the daemon: identity methods respond while the rest is still being loaded."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from types import ModuleType

import grpc
import pytest
from google.protobuf.message import Message

from keyferry.cli.daemons.driver import DRIVER_FLAGS, settings_from
from keyferry.cli.flags.go_flags import parse_flags
from keyferry.driver import daemon
from keyferry.driver.settings import DriverSettings
from keyferry.errors import PlatformError
from keyferry.proto import csi_pb2 as csi


def _settings(folder: Path, *flags: str) -> DriverSettings:
    (folder / "manifests").mkdir(exist_ok=True)
    return settings_from(
        parse_flags(
            [
                f"--endpoint=unix://{folder}/csi.sock",
                "--nodeid=node-1",
                f"--manifests={folder}/manifests",
                "--volumes=folder",
                "--isolation=none",
                "--metrics-addr=127.0.0.1:0",
                f"--provider-volume={folder}/providers",
                *flags,
            ],
            DRIVER_FLAGS,
        )
    )


async def test_identity_methods_respond_while_the_engine_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubelet can register the driver meanwhile; an unpublish waits."""
    loading, load = threading.Event(), daemon._import_node

    def load_later(*, uses_cluster: bool) -> ModuleType:
        assert loading.wait(30)
        return load(uses_cluster=uses_cluster)

    monkeypatch.setattr(daemon, "_import_node", load_later)
    running = asyncio.create_task(daemon.run_driver(_settings(tmp_path)))
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/csi.sock") as channel:
        probed = await _call(channel, "Identity/Probe", csi.ProbeRequest())
        assert csi.ProbeResponse.FromString(probed).ready.value
        message = csi.NodeUnpublishVolumeRequest(volume_id="v", target_path=f"{tmp_path}/none")
        unpublish = asyncio.create_task(_call(channel, "Node/NodeUnpublishVolume", message))
        await asyncio.wait((unpublish,), timeout=0.1)
        assert not unpublish.done()
        loading.set()
        await unpublish
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def _call(channel: grpc.aio.Channel, method: str, message: Message) -> bytes:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/csi.v1.{method}")
    return await call(message.SerializeToString(), wait_for_ready=True)


async def test_a_driver_that_cannot_start_ends_with_its_calls(tmp_path: Path) -> None:
    settings = _settings(tmp_path, "--metrics-addr=127.0.0.1:99999")
    with pytest.raises(PlatformError, match="--metrics-addr"):
        await daemon.run_driver(settings)
    assert not (tmp_path / "csi.sock").exists()
