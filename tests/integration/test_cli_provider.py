"""`keyferry provider azure`: the provider protocol on a socket, as the upstream driver calls it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import grpc
import pytest

from keyferry.contract import POD_NAME, POD_NAMESPACE, MountCall
from keyferry.driver.plugins import ExternalProvider
from keyferry.errors import ProviderReportedError
from tests.fakes.cli import run_cli, start_cli
from tests.fakes.devvault import running_devvault

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


async def test_the_provider_serves_mount_and_version_and_stops_in_order(tmp_path: Path) -> None:
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
            async with asyncio.timeout(30):
                while not socket.exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)  # another process makes it
            assert 0o600 == socket.stat().st_mode & 0o777

            result = await provider.mount(_call("db-password"))
            version = await provider.version()
            with pytest.raises(ProviderReportedError) as refused:
                await provider.mount(_call("absent"))

            await provider.close()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
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


async def test_help_version_and_mistakes() -> None:
    """Each ends at once with a text; a mistake with exit code 2 and a hint."""
    done = await run_cli("provider", "azure", "--version")
    assert {"version", "buildDate"} == json.loads(done.out).keys()
    done = await run_cli("provider", "--help")
    assert (0, True) == (done.code, "azure" in done.out)
    done = await run_cli("provider", "azure", "-h")
    assert (0, True) == (done.code, "--endpoint" in done.out)
    done = await run_cli("provider", "gcp")
    assert (2, True) == (done.code, "azure" in done.err)
    done = await run_cli("provider", "azure", "--nonsense")
    assert (2, True) == (done.code, "not defined: -nonsense" in done.err)
