"""The driver as a process over a Kubernetes API: where the API is named, and that it is read."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import grpc

from keyferry.proto import csi_pb2 as csi
from tests.fakes.cli import ISOLATION
from tests.fakes.kube_api import class_manifest, running_api

CALL_SECONDS = 20.0


def publish_request(target: Path) -> csi.NodePublishVolumeRequest:
    """A call of kubelet for a class `web`."""
    return csi.NodePublishVolumeRequest(
        volume_id="v",
        target_path=str(target),
        readonly=True,
        volume_capability=csi.VolumeCapability(mount=csi.VolumeCapability.MountVolume()),
        volume_context={
            "secretProviderClass": "web",
            "csi.storage.k8s.io/pod.name": "web-0",
            "csi.storage.k8s.io/pod.namespace": "shop",
            "csi.storage.k8s.io/pod.uid": "uid",
        },
    )


async def test_driver_reads_secret_provider_classes_of_the_kubeconfig() -> None:
    """Without --manifests, they come from the cluster."""
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short)
        async with running_api(folder) as api:
            api.put("secretproviderclasses", class_manifest("web", provider="nobody"))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "keyferry", "driver", "--nodeid=node-1"),
                *(f"--endpoint=unix://{folder}/csi.sock", f"--kubeconfig={api.kubeconfig}"),
                *("--metrics-addr=127.0.0.1:0", "--volumes=folder", *ISOLATION),
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                async with grpc.aio.insecure_channel(
                    f"unix:{folder}/csi.sock", options=[("grpc.default_authority", "localhost")]
                ) as channel:
                    call = channel.unary_unary(
                        "/csi.v1.Node/NodePublishVolume",
                        request_serializer=csi.NodePublishVolumeRequest.SerializeToString,
                        response_deserializer=csi.NodePublishVolumeResponse.FromString,
                    )
                    refused = ""
                    try:
                        await call(
                            publish_request(folder / "pods" / "mount"),
                            timeout=CALL_SECONDS,
                            wait_for_ready=True,
                        )
                    except grpc.aio.AioRpcError as error:
                        refused = error.details() or ""
            finally:
                process.terminate()
                await process.wait()
    assert "provider 'nobody' is not built in" in refused
    assert 0 == process.returncode
