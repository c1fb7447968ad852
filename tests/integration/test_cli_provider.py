"""`keyferry provider azure`: the provider protocol on a socket, as the upstream driver calls it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import aiohttp
import grpc
import pytest

from keyferry.errors import ProviderReportedError
from keyferry.net.grpc_server import serving_grpc
from keyferry.net.sockets import parse_endpoint
from keyferry.net.status_server import serving_status
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.providers.api import MountCall
from keyferry.providers.known_fields.attributes import POD_NAME, POD_NAMESPACE
from keyferry.providers.server import HealthProbe, add_provider
from tests.fakes.cli import run_cli, start_cli
from tests.fakes.devvault import running_devvault
from tests.fakes.provider import ScriptedProvider

TENANT = "11111111-0000-4000-8000-000000000000"
CLIENT = "22222222-0000-4000-8000-000000000000"
OBJECTS = "array:\n- |\n  objectName: {name}\n  objectType: secret\n"


def _call(name: str) -> MountCall:
    return MountCall(
        attributes={
            "useVMManagedIdentity": "true",
            "userAssignedIdentityID": CLIENT,
            "keyvaultName": "contoso",
            "tenantID": TENANT,
            "objects": OBJECTS.format(name=name),
            POD_NAME: "web",
            POD_NAMESPACE: "default",
        },
        target_path="/unused",
    )


async def test_provider_serves_mount_and_version_and_stops_gracefully(tmp_path: Path) -> None:
    """Files and versions come over the wire; a refusal is UNKNOWN with upstream's beginning."""
    socket = tmp_path / "providers" / "azure.sock"
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", "s3cret")
        vault.add_managed_identity(CLIENT, tenant=TENANT)
        vault.grant("contoso", CLIENT, "get")
        process = await start_cli(
            *("provider", "azure", f"-endpoint=unix://{socket}", "--healthz-port=0"),
            *("--dev-vault", tmp_path / "devvault", "--construct-pem-chain=true"),
        )
        try:
            provider = ExternalProvider("azure", socket, max_receive_bytes=1 << 22)
            async with asyncio.timeout(100):
                while not socket.exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)  # another process makes it
            assert 0o600 == socket.stat().st_mode & 0o777

            result = await provider.mount(_call("db-password"))
            version = await provider.version()
            with pytest.raises(ProviderReportedError) as refused:
                await provider.mount(_call("absent"))

            await provider.close()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(100):
                _, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert [b"s3cret"] == [file.contents for file in result.files]
    assert ["secret/db-password"] == [v.id for v in result.versions]
    assert "v1alpha1" == version.api_version
    assert grpc.StatusCode.UNKNOWN.value[0] == refused.value.code
    assert "failed to mount objects, error: " in str(refused.value)
    assert 0 == process.returncode, err.decode()
    assert not socket.exists()
    assert "s3cret" not in err.decode()


async def test_health_endpoint_checks_the_provider_socket(tmp_path: Path) -> None:
    """200 and `ok` while it answers, 503 and why while it does not."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/azure.sock")
    async with (
        HealthProbe(endpoint.address, 5.0) as probe,
        serving_status(
            "127.0.0.1:0", metrics=None, checks={"/healthz": probe.problem}, flag="--healthz-port"
        ) as address,
        aiohttp.ClientSession(f"http://{address}") as session,
    ):
        async with session.get("/healthz") as answer:
            assert 503 == answer.status
            assert "the provider does not respond (UNAVAILABLE)\n" == await answer.text()
        async with serving_grpc(
            endpoint, lambda server: add_provider(server, ScriptedProvider(), name="azure")
        ):
            async with asyncio.timeout(100):
                while await probe.problem():  # noqa: ASYNC110 - its connection tries at its own pace
                    await asyncio.sleep(0.05)
            async with session.get("/healthz") as answer:
                assert (200, "ok\n") == (answer.status, await answer.text())


async def test_grpc_health_service_behaves_like_upstream(tmp_path: Path) -> None:
    """Check says SERVING; Watch and List are unimplemented."""
    endpoint = parse_endpoint(f"unix://{tmp_path}/azure.sock")
    local = [("grpc.default_authority", "localhost")]
    async with (
        serving_grpc(
            endpoint, lambda server: add_provider(server, ScriptedProvider(), name="azure")
        ),
        grpc.aio.insecure_channel(endpoint.address, options=local) as channel,
    ):

        async def call(method: str) -> bytes:
            made: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                f"/grpc.health.v1.Health/{method}"
            )
            return await made(b"", timeout=30.0)

        assert b"\x08\x01" == await call("Check")
        for method in ("Watch", "List"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(method)
            assert grpc.StatusCode.UNIMPLEMENTED is refused.value.code()


async def test_help_version_and_invalid_arguments() -> None:
    """Each ends at once with a text; a mistake with exit code 2 and a hint."""
    done = await run_cli("provider", "azure", "--version")
    assert {"version", "buildDate"} == json.loads(done.stdout).keys()
    done = await run_cli("provider", "--help")
    assert (0, True) == (done.exit_code, "azure" in done.stdout)
    done = await run_cli("provider", "azure", "-h")
    assert (0, True) == (done.exit_code, "--endpoint" in done.stdout)
    done = await run_cli("provider", "gcp")
    assert (2, True) == (done.exit_code, "azure" in done.stderr)
    done = await run_cli("provider", "azure", "--nonsense")
    assert (2, True) == (done.exit_code, "not defined: -nonsense" in done.stderr)
