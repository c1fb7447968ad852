"""`keyferry driver` and `keyferry provider` as processes, with the flags of the audit log."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import grpc
import pytest

from tests.fakes.audit import checked_records
from tests.fakes.azure_mounts import call, entry
from tests.fakes.cli import run_cli
from tests.fakes.devvault import running_devvault
from tests.fakes.provider import external_provider
from tests.integration.driver.test_process import CLASS, running

MI = "11111111-0000-4000-8000-000000000001"
VM = {"useVMManagedIdentity": "true", "userAssignedIdentityID": MI}


def write_class(home: Path, name: str) -> None:
    """Apply a SecretProviderClass with the secret of the same name."""
    spec = {"provider": "azure", "parameters": dict(call(VM, entry(name)).attributes)}
    metadata = {"name": name, "namespace": "shop"}
    manifest = {**CLASS, "metadata": metadata, "spec": spec}
    (home / "manifests" / f"{name}.yaml").write_text(json.dumps(manifest))


async def test_file_has_a_record_of_each_access(tmp_path: Path) -> None:
    """All records are written before the process ends, and none is in the log."""
    path = tmp_path / "audit.log"
    async with (
        external_provider(tmp_path / "ext.sock"),
        running(tmp_path, f"--audit-log={path}") as driver,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await driver.publish()
        driver.process.send_signal(signal.SIGTERM)
        await driver.wait_for("stopping")
        assert await driver.end() == 0
    assert [each["object"] for each in checked_records(path.read_text())] == ["secret/a"]
    assert not any("secret access" in line for line in driver.log)


async def test_accesses_of_a_provider_in_another_process_are_recorded(tmp_path: Path) -> None:
    """With --isolation=process, the default for root: results and errors carry them."""
    path = tmp_path / "audit.log"
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", "canary-value")
        vault.add_managed_identity(MI)
        vault.grant("contoso", MI)
        flags = (f"--dev-vault={vault.data.folder}", f"--audit-log={path}")
        async with running(tmp_path, *flags) as driver:
            write_class(tmp_path, "db-password")
            await driver.publish("db-password")
            write_class(tmp_path, "absent")
            with pytest.raises(grpc.aio.AioRpcError):
                await driver.publish("absent")
            driver.process.send_signal(signal.SIGTERM)
            assert await driver.end() == 0
    delivered, missing = checked_records(path.read_text())
    assert [delivered["object"], delivered["outcome"]] == ["secret/db-password", "delivered"]
    assert [missing["object"], missing["outcome"]] == ["secret/absent", "not-found"]
    for record in (delivered, missing):
        assert record["vault"] == "contoso.vault.azure.net"
        assert record["identity"]["clientID"] == MI


async def test_default_is_the_log(tmp_path: Path) -> None:
    """One line per access."""
    async with external_provider(tmp_path / "ext.sock"), running(tmp_path) as driver:
        await driver.publish()
        line = await driver.wait_for('"secret access"')
        assert 'audit] "secret access" event="mount" pod="shop/web-0"' in line


async def test_file_that_cannot_be_opened_prevents_the_start(tmp_path: Path) -> None:
    """With what to do."""
    (tmp_path / "manifests").mkdir()
    result = await run_cli(
        "driver",
        f"--endpoint=unix://{tmp_path}/csi.sock",
        "--metrics-addr=127.0.0.1:0",
        f"--manifests={tmp_path}/manifests",
        "--volumes=folder",
        f"--audit-log={tmp_path}/missing/audit.log",
    )
    assert result.exit_code == 1
    assert "--audit-log: failed to open" in result.stderr
    assert "No such file or directory" in result.stderr
