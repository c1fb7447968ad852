"""`keyferry get --list`: what a mount would write, on the development vault."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry_devvault.model import SecretAttributes
from tests.fakes.cli import CommandResult, run_cli
from tests.fakes.devvault import DevVault, running_devvault
from tests.integration.test_cli_run import CANARY, HEAD

SELECTION = """\
        - |
          objectType: secret
          find: {name: {regexp: ^shop-}, tags: {env: prod}}
          rewrite: [{regexp: {source: ^shop-, target: ""}}]
          filePermission: "0400"
        - |
          objectName: settings
          objectType: secret
          expandKeys: true
          fileOwner: "10:20"
    templates: |
      - path: app.conf
        template: "a={{ a }}"
"""


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVault]:
    """Three secrets of which two are selected, and a JSON document."""
    async with running_devvault(tmp_path) as running:
        ends = int(time.time()) + 40 * 86_400
        expiring = SecretAttributes(expires=ends, tags={"env": "prod"})
        running.set_secret("contoso", "shop-a", CANARY)
        running.data.secrets.set("contoso", "shop-a", CANARY, expiring)
        running.set_secret("contoso", "shop-b", CANARY, tags={"env": "prod"})
        running.set_secret("contoso", "shop-c", CANARY, tags={"env": "test"})
        running.set_secret("contoso", "settings", json.dumps({"user": CANARY}))
        machine = running.data.identities.ensure_system_assigned()
        running.grant("contoso", machine.client_id, "get", "list")
        (tmp_path / "app.yaml").write_text(HEAD.replace("db-password", "a") + SELECTION)
        yield running


async def get(folder: Path, *more: str) -> CommandResult:
    """Run the command."""
    return await run_cli("get", folder / "app.yaml", *more, "--dev-vault", folder / "devvault")


async def test_selected_objects_and_files_are_listed(vault: DevVault, tmp_path: Path) -> None:
    """With versions, expiry, modes and owners; never a value."""
    done = await get(tmp_path, "--list", "-o", "json")
    assert 0 == done.exit_code, done.stderr
    listed = json.loads(done.stdout)
    ids = ["secret/settings", "secret/shop-a", "secret/shop-b"]
    assert ids == [each["id"] for each in listed["objects"]]
    assert [False, True, False] == [each["expiresAt"] is not None for each in listed["objects"]]
    assert all(each["version"] for each in listed["objects"])
    assert [
        {"path": "a", "mode": "0400", "uid": None, "gid": None},
        {"path": "app.conf", "mode": "0400", "uid": None, "gid": None},
        {"path": "b", "mode": "0400", "uid": None, "gid": None},
        {"path": "settings/user", "mode": "0644", "uid": 10, "gid": 20},
    ] == listed["files"]
    table = await get(tmp_path, "--list")
    objects, files = table.stdout.split("\n\n")
    assert ["OBJECT", "VERSION", "EXPIRES"] == objects.splitlines()[0].split()
    assert ["FILE", "MODE", "UID", "GID"] == files.splitlines()[0].split()
    assert CANARY not in done.stdout + done.stderr + table.stdout + table.stderr


async def test_nothing_is_written(vault: DevVault, tmp_path: Path) -> None:
    """Not even an empty folder."""
    before = sorted(tmp_path.iterdir())
    await get(tmp_path, "--list")
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "missing argument 'OBJECT'"),
        (("a", "--list"), "--list and OBJECT exclude each other"),
        (("a", "-o", "json"), "-o json requires --list"),
    ],
)
async def test_wrong_arguments(
    vault: DevVault, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """One object, or the list."""
    done = await get(tmp_path, *arguments)
    assert (2, "") == (done.exit_code, done.stdout)
    assert message in done.stderr
