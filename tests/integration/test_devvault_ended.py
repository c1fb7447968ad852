"""A development vault that has ended: commands, driver and provider name the one that starts it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from keyferry.errors import KeyferryError
from keyferry.net.http_client import HttpsClient
from keyferry.providers.azure.provider import AzureProvider
from tests.fakes.azure_mounts import call, mount_error
from tests.fakes.cli import ISOLATION, CommandResult, start_cli
from tests.fakes.clock import AutojumpClock
from tests.fakes.devvault import DEFAULT_TENANT, running_devvault
from tests.fakes.resilience import uncached_fetcher

SECONDS = 30
CLIENT = "22222222-0000-4000-8000-000000000002"
CLASS = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: app
spec:
  provider: azure
  parameters:
    useVMManagedIdentity: "true"
    keyvaultName: contoso
    tenantID: 11111111-0000-4000-8000-000000000000
    objects: |
      array:
      - |
        objectName: db-password
        objectType: secret
"""

pytestmark = pytest.mark.usefixtures("mount_home")


@pytest.fixture
async def killed(tmp_path: Path) -> Path:
    """The data folder of a development vault that was killed while it ran."""
    folder = tmp_path / "dev vault"
    process = await start_cli("devvault", "run", "--data", folder)
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        assert b"listens" in await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert (folder / "connection.json").exists()
    return folder


async def run_cli(*words: object, cwd: Path) -> CommandResult:
    """Run a command; one that starts a server is ended."""
    process = await start_cli(*words, cwd=cwd)
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return CommandResult(process.returncode, out.decode(), err.decode())


def assert_names_the_start_command(text: str, folder: Path) -> None:
    assert f"the development vault at {folder} is not running" in text
    assert f"keyferry devvault run --data '{folder}'" in text
    assert "Azure VM" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "words",
    [
        ("mount", "app.yaml", "target", "--dev-vault"),
        ("driver", "--endpoint=unix://HOME/csi.sock", "--nodeid=n", "--manifests=.", *ISOLATION),
        ("provider", "azure", "--endpoint=unix://HOME/azure.sock"),
    ],
)
async def test_command_does_not_start(tmp_path: Path, killed: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "app.yaml").write_text(CLASS)
    last = (killed,) if words[0] == "mount" else (f"--dev-vault={killed}",)
    here = [word.replace("HOME", str(tmp_path)) for word in words]
    done = await run_cli(*here, *last, cwd=tmp_path)
    assert 0 != done.exit_code
    assert_names_the_start_command(done.stderr, killed)


async def test_mount_ignores_another_program_on_the_port(tmp_path: Path, killed: Path) -> None:
    (tmp_path / "app.yaml").write_text(CLASS)
    addresses = json.loads((killed / "connection.json").read_text())
    ports = [int(addresses[scheme].rpartition(":")[2]) for scheme in ("https", "http")]
    async with http_server(ports[0]), http_server(ports[1]):
        done = await run_cli("mount", "app.yaml", "target", "--dev-vault", killed, cwd=tmp_path)
    assert_names_the_start_command(done.stderr, killed)


@asynccontextmanager
async def http_server(port: int) -> AsyncIterator[None]:
    """Another program, which responds to everything with 404."""
    runner = web.ServerRunner(web.Server(lambda _: asyncio.sleep(0, web.Response(status=404))))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


PRINCIPAL = {"clientid": CLIENT, "clientsecret": "canary"}


@pytest.mark.parametrize(
    ("parameters", "secrets"),
    [({"useVMManagedIdentity": "true"}, None), ({}, PRINCIPAL), ({"usePodIdentity": "true"}, None)],
)
@pytest.mark.parametrize("is_port_reused", [False, True])
async def test_mount_of_a_running_provider_fails(
    tmp_path: Path,
    parameters: dict[str, str],
    secrets: dict[str, str] | None,
    is_port_reused: bool,
) -> None:
    """Whatever listens on the ports by now."""
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", "canary-value")
        vault.add_app(CLIENT, tenant=DEFAULT_TENANT, secret="canary")
        redirect = vault.redirect
        clock = AutojumpClock()
        provider = AzureProvider(
            HttpsClient(redirect.emulator().https, clock=clock),
            uncached_fetcher(clock),
            emulator=redirect.emulator(),
        )

    async def error() -> KeyferryError:
        return await mount_error(provider, call(parameters, secrets=secrets))

    if is_port_reused:
        async with http_server(redirect.https[1]), http_server(redirect.http[1]):
            failed = await error()
    else:
        failed = await error()
    await provider.close()
    folder = tmp_path / "devvault"
    assert f"the development vault at {folder} is not running" in failed.problem
    assert f"Start it with: keyferry devvault run --data {folder}" == failed.remedy


async def test_folder_in_which_none_ever_ran(tmp_path: Path) -> None:
    """It is not created. A retry may succeed, so the exit code is that of an outage."""
    (tmp_path / "app.yaml").write_text(CLASS)
    done = await run_cli("mount", "app.yaml", "target", "--dev-vault", "nowhere", cwd=tmp_path)
    assert 4 == done.exit_code
    assert "error: the development vault at nowhere is not running\n" in done.stderr
    assert "hint: Start it with: keyferry devvault run --data nowhere\n" in done.stderr
    assert ["app.yaml"] == [path.name for path in tmp_path.iterdir()]
