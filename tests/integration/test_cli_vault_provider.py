"""`keyferry provider vault|openbao`: upstream's flags, and a mount over the socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from keyferry.errors import ProviderReportedError
from keyferry.plugins.external_provider import ExternalProvider
from keyferry.providers.api import MountResult
from tests.fakes.cli import run_cli, start_cli
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_auth import FakeToken
from tests.fakes.vault_mounts import FakePod, VaultMounts, entry, vault_mounts

OBJECT = entry("db", "secret/data/app/db", secretKey="password")


async def test_provider_serves_a_mount_and_returns_vault_errors(tmp_path: Path) -> None:
    """The address comes from the environment; the vault's own words reach the driver.

    Versions are the same after a restart, by the key beside the socket.
    """
    async with running_vault() as vault, vault_mounts(vault) as mounts:
        vault.add_role("app", accounts=["shop/web"], policy={"secret/data/app/*": {"read"}})
        vault.write("secret", "app/db", {"password": "canary-value"})
        address = vault.parameters.pop("vaultAddress")
        environ = {"VAULT_ADDR": address, "VAULT_TOKEN": "t"}
        socket = tmp_path / "vault.sock"
        result, refused, log = await _serve(socket, mounts, environ)
        again, _, _ = await _serve(socket, mounts, environ)
    assert [b"canary-value"] == [file.contents for file in result.files]
    assert result.versions
    assert again.versions == result.versions
    assert 32 == len((tmp_path / "vault-hmac.key").read_bytes())
    assert "error making mount request: " in refused
    assert "service account name not authorized" in refused
    assert "VAULT_TOKEN" in log
    assert "canary" not in log


async def _serve(
    socket: Path, mounts: VaultMounts, environ: dict[str, str]
) -> tuple[MountResult, str, str]:
    """What a good mount brings, the text of a refused one, and the log."""
    process = await start_cli(
        *("provider", "vault", f"-endpoint={socket}", "-health-addr=127.0.0.1:0"),
        "--allow-local-addresses",
        env={**os.environ, **environ},
    )
    try:
        provider = ExternalProvider("vault", socket, max_receive_bytes=1 << 22)
        async with asyncio.timeout(100):
            while not socket.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # another process makes it
        result = await provider.mount(mounts.call(OBJECT))
        assert "vault-csi-provider" == (await provider.version()).runtime_name
        with pytest.raises(ProviderReportedError) as refused:
            await provider.mount(mounts.call(OBJECT, pod=FakePod(account="shop/other")))
        await provider.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(100):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode
    return result, str(refused.value), err.decode()


@pytest.mark.parametrize("name", ["vault", "openbao"])
async def test_help_and_version(name: str) -> None:
    """The flags are those of upstream."""
    done = await run_cli("provider", name, "-h")
    assert 0 == done.exit_code
    for flag in (
        f"--{name}-addr",
        f"--{name}-tls-ca-cert",
        "--health-addr",
        "--cache-size",
        "--hmac-secret-name",
    ):
        assert flag in done.stdout
    done = await run_cli("provider", name, "-version")
    assert "v0.0.21" == json.loads(done.stdout)["minDriverVersion"]


async def test_version_has_the_formats_of_upstream() -> None:
    """JSON on one line, on many lines, YAML; another word is an error."""
    done = await run_cli("provider", "vault", "-version", "-output=json-pretty")
    assert ["major", "minor", "patch"] == list(json.loads(done.stdout))[:3]
    assert len(done.stdout.splitlines()) > 3
    done = await run_cli("provider", "vault", "-version", "-output", "yaml")
    assert done.stdout.startswith("major: ")
    done = await run_cli("provider", "vault", "-version", "-output", "xml")
    assert (2, True) == (done.exit_code, "json-pretty" in done.stderr)


async def test_mount_without_cluster_has_stable_versions(tmp_path: Path) -> None:
    """The HMAC key is stored next to the pod statuses; without that directory there is no key."""
    async with running_vault() as vault:
        vault.tokens["t"] = FakeToken({"secret/data/app/*": {"read"}}, 1200, 1e9, renewable=False)
        vault.write("secret", "app/db", {"password": "canary-value"})
        parameters = {
            **vault.parameters,
            "vaultAuthMethod": "token",
            "objects": json.dumps([OBJECT]),
        }
        manifest = {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": "app"},
            "spec": {"provider": "vault", "parameters": parameters},
        }
        (tmp_path / "class.yaml").write_text(json.dumps(manifest))
        secret = {"kind": "Secret", "stringData": {"token": "t"}}
        (tmp_path / "secret.yaml").write_text(json.dumps(secret))
        versions = [await _mounted_version(tmp_path) for _ in range(2)]
    assert versions[0] == versions[1]
    assert 32 == len((tmp_path / "manifests" / "vault-hmac.key").read_bytes())


async def _mounted_version(folder: Path) -> str:
    """The version that the pod status names after `keyferry mount`."""
    target, manifests = folder / "volume", folder / "manifests"
    done = await run_cli(
        *("mount", folder / "class.yaml", target, f"--credentials={folder / 'secret.yaml'}"),
        f"--secrets-dir={manifests}",
    )
    assert 0 == done.exit_code, done.stderr
    (status,) = (manifests / "secretproviderclasspodstatuses").rglob("*.yaml")
    (found,) = yaml.safe_load(status.read_text())["status"]["objects"]
    assert 0 == (await run_cli("unmount", target, f"--secrets-dir={manifests}")).exit_code
    return str(found["version"])
