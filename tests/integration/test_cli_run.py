"""`keyferry run` and `keyferry get`, as processes, on the development vault."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from keyferry_devvault.http_types import RequestKind
from tests.fakes.cli import CommandResult, run_cli, start_cli
from tests.fakes.devvault import DevVault, Hang, running_devvault
from tests.fakes.vault_api import running_vault
from tests.fakes.vault_auth import FakeToken

CANARY = "canary-9f2b61c0"
CREDENTIALS = "database/creds/app"
HEAD = """\
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: app
spec:
  provider: azure
  secretObjects:
  - secretName: settings
    type: Opaque
    data:
    - objectName: db-password
      key: PGPASSWORD
  - secretName: files
    type: Opaque
    data:
    - objectName: db-password
      key: db.password
  parameters:
    useVMManagedIdentity: "true"
    keyvaultName: contoso
    tenantID: 11111111-0000-4000-8000-000000000000
    objects: |
      array:
"""


@pytest.fixture
async def vault(tmp_path: Path) -> AsyncIterator[DevVault]:
    async with running_devvault(tmp_path) as vault:
        vault.set_secret("contoso", "db-password", CANARY)
        vault.set_secret("contoso", "api-key", "second\n")
        machine = vault.data.identities.ensure_system_assigned()
        vault.grant("contoso", machine.client_id, "get")
        yield vault


def spc_file(folder: Path, *entries: str) -> Path:
    """A SecretProviderClass with these objects; by default db-password and api-key."""
    texts = entries or ("objectName: db-password", "objectName: api-key\nobjectAlias: app/KEY")
    path = folder / "app.yaml"
    path.write_text(HEAD + "".join(_entry(text) for text in texts))
    return path


def _entry(text: str) -> str:
    if "objectType" not in text:
        text += "\nobjectType: secret"
    return "      - |\n" + "".join(f"        {line}\n" for line in text.splitlines())


async def keyferry(
    folder: Path, name: str, *arguments: object, stdin: str = "", **options: object
) -> CommandResult:
    """Run a command quietly on the development vault; the arguments begin with CLASS.yaml."""
    dev = ("-q", "--dev-vault", folder / "devvault")
    return await run_cli(name, *dev, *arguments, stdin=stdin, **options)


SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


async def environment(folder: Path, *arguments: object, **options: Any) -> dict[str, str]:
    """The environment of a command that `keyferry run` starts with these arguments."""
    done = await keyferry(folder, "run", *arguments, "--", sys.executable, "-c", SHOW, **options)
    assert (0, "") == (done.exit_code, done.stderr)
    return dict(json.loads(done.stdout))


# --- variables ------------------------------------------------------------------------------------


async def test_each_object_is_a_variable_of_the_command(tmp_path: Path, vault: DevVault) -> None:
    """Named after the file, beside the variables that keyferry inherited."""
    found = await environment(tmp_path, spc_file(tmp_path), env=os.environ | {"KEPT": "1"})
    assert (CANARY, "second\n") == (found["DB_PASSWORD"], found["APP_KEY"])
    assert "1" == found["KEPT"]


async def test_only_chosen_objects_are_variables(tmp_path: Path, vault: DevVault) -> None:
    """By alias, name or path, on the command line and in files; the value replaces an older one."""
    file = tmp_path / "variables.env"
    file.write_text("# mapping\nFROM_FILE=api-key\n")
    found = await environment(
        tmp_path,
        *(spc_file(tmp_path), "--env", "PASSWORD=db-password", "--env=KEY=app/KEY"),
        *("--env-file", file),
        env=os.environ | {"PASSWORD": "old"},
    )
    assert CANARY == found["PASSWORD"]
    assert ("second\n", "second\n") == (found["KEY"], found["FROM_FILE"])
    assert "DB_PASSWORD" not in found


async def test_variables_come_from_a_secret_as_with_env_from(
    tmp_path: Path, vault: DevVault
) -> None:
    """A key that cannot be the name of a variable is an error."""
    found = await environment(tmp_path, spc_file(tmp_path), "--env-from", "settings")
    assert CANARY == found["PGPASSWORD"]
    assert "DB_PASSWORD" not in found
    done = await keyferry(tmp_path, "run", tmp_path / "app.yaml", "--env-from=files", "true")
    assert 125 == done.exit_code
    assert "key db.password: 'db.password' cannot be the name" in done.stderr
    done = await keyferry(tmp_path, "run", tmp_path / "app.yaml", "--env-from=nope", "true")
    assert (125, True) == (done.exit_code, "It has: settings, files." in done.stderr)


async def test_value_is_in_no_argument_and_no_file(tmp_path: Path, vault: DevVault) -> None:
    """Only in the environment of the command, which replaces the process of keyferry."""
    home = tmp_path / "home"
    home.mkdir()
    process = await start_cli(
        *("run", spc_file(tmp_path), "-v", "--dev-vault", tmp_path / "devvault", "--", "sleep"),
        "1000",
        env=os.environ | {"HOME": str(home), "TMPDIR": str(home)},
        cwd=home,
    )
    try:
        proc = Path(f"/proc/{process.pid}")
        async with asyncio.timeout(100):
            while b"sleep\x001000\x00" != (proc / "cmdline").read_bytes():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert f"DB_PASSWORD={CANARY}".encode() in (proc / "environ").read_bytes().split(b"\0")
        await _only_pipes_are_open(proc)
        assert [] == list(home.iterdir())
    finally:
        process.kill()
        out, err = await process.communicate()
    assert CANARY not in (out + err).decode()


async def _only_pipes_are_open(proc: Path) -> None:
    """Wait until the loader of the command has closed its files; what stays open is an error."""
    opened = {""}
    end = time.monotonic() + 30.0
    while opened and time.monotonic() < end:
        await asyncio.sleep(0.01)
        with suppress(FileNotFoundError):  # a file that was closed meanwhile
            links = [str(link.readlink()) for link in (proc / "fd").iterdir()]
            opened = {link for link in links if not link.startswith("pipe:")}
    assert not opened


# --- exit codes and signals -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 255])
async def test_exit_code_is_that_of_the_command(tmp_path: Path, vault: DevVault, code: int) -> None:
    done = await keyferry(tmp_path, "run", spc_file(tmp_path), "--", "sh", "-c", f"exit {code}")
    assert (code, "") == (done.exit_code, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        (("nothere.yaml", "true"), 125, "nothere.yaml cannot be read: no such file", "Name a YAML"),
        (("app.yaml",), 125, "no command is given", "keyferry run CLASS.yaml -- COMMAND"),
        (("app.yaml", "ls", "-l"), 125, "no such option '-l'", "For an option of the command,"),
        (("app.yaml", "--env", "X", "true"), 125, "--env: 'X' is not NAME=OBJECT", "Write, for"),
        (("app.yaml", "--env-file", "no", "true"), 125, "no cannot be read: No such", "Name a"),
        (("app.yaml", "--env", "X=y", "true"), 125, "has no object 'y'", "It has: db-password"),
        (("app.yaml", "./app.yaml"), 126, "app.yaml is not executable", "Name a program"),
        (("app.yaml", "./devvault"), 126, "devvault is a folder", "Name a program"),
        (("app.yaml", "./script"), 126, "script cannot be executed: Exec format", "#!/bin/sh"),
        (("app.yaml", "./lost"), 126, "lost cannot be executed: No such file", "interpreter"),
        (("app.yaml", "no-such-command"), 127, "'no-such-command' is not in a folder", "Check"),
        (("app.yaml", "./nothere"), 127, "'./nothere' does not exist", "Check its name"),
    ],
)
async def test_failure_of_keyferry_has_the_exit_codes_of_env(
    tmp_path: Path, vault: DevVault, arguments: tuple[str, ...], code: int, error: str, hint: str
) -> None:
    """125 for its own failure, 126 for a command that cannot be executed, 127 for a missing one."""
    spc_file(tmp_path)
    for name, text in (("script", "exit 0\n"), ("lost", "#!/nonexistent\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    done = await keyferry(tmp_path, "run", *arguments, cwd=tmp_path)
    assert (code, "") == (done.exit_code, done.stdout), done.stderr
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("hint: ")
    assert hint in second


async def test_missing_command_is_reported_without_a_request_to_a_vault(
    tmp_path: Path, vault: DevVault
) -> None:
    await keyferry(tmp_path, "run", spc_file(tmp_path), "no-such-command")
    assert 0 == vault.count(RequestKind.SECRET)


async def test_error_of_a_vault_is_125_for_run_and_3_for_get(
    tmp_path: Path, vault: DevVault
) -> None:
    """A command may return 3 itself."""
    spc_file(tmp_path)
    vault.delete("contoso", "api-key")
    for name, code in (("run", 125), ("get", 3)):
        done = await keyferry(tmp_path, name, tmp_path / "app.yaml", "db-password")
        if name == "run":
            assert 127 == done.exit_code
            done = await keyferry(tmp_path, name, tmp_path / "app.yaml", "true")
        assert (code, "") == (done.exit_code, done.stdout)
        assert done.stderr.startswith("error: secret api-key does not exist in vault contoso")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
async def test_signal_reaches_the_command(
    tmp_path: Path, vault: DevVault, number: signal.Signals
) -> None:
    """It has the process of keyferry, and the default reaction to every signal."""
    name = number.name.removeprefix("SIG")
    process = await start_cli(
        *("run", "-q", spc_file(tmp_path), "--dev-vault", tmp_path / "devvault", "--", "sh", "-c"),
        f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done",
    )
    assert process.stdout
    assert b"ready\n" == await process.stdout.readline()
    process.send_signal(number)
    out, err = await process.communicate()
    assert (9, b"got\n", b"") == (process.returncode, out, err)


async def test_command_has_the_default_reaction_to_a_closed_pipe(
    tmp_path: Path, vault: DevVault
) -> None:
    """Python ignores SIGPIPE; `yes | head` must end all the same."""
    done = await keyferry(
        *(tmp_path, "run", spc_file(tmp_path), "--", "grep", "SigIgn", "/proc/self/status")
    )
    assert 0 == int(done.stdout.split()[1], 16) & (1 << (signal.SIGPIPE - 1))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("command", ["run", "get", "mount"])
async def test_signal_ends_a_fetch_that_waits(
    tmp_path: Path, vault: DevVault, command: str, number: signal.Signals, code: int
) -> None:
    """At once, with 128 and the number of the signal, without a traceback and without a file."""
    vault.add_fault("/metadata", Hang())
    process = await start_cli(
        *(command, "-q", spc_file(tmp_path), "--dev-vault", tmp_path / "devvault"),
        tmp_path / "target" if command == "mount" else "true",
    )
    async with asyncio.timeout(100):
        while vault.data.fault_injection.faults():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    process.send_signal(number)
    out, err = await process.communicate()
    assert (code, b"") == (process.returncode, out), err
    assert b"Traceback" not in err
    assert not (tmp_path / "target").exists()


# --- standard input -------------------------------------------------------------------------------


async def test_class_is_read_from_standard_input(tmp_path: Path, vault: DevVault) -> None:
    """For each command that takes a SecretProviderClass; errors name the stream and the line."""
    text = spc_file(tmp_path).read_text()
    done = await keyferry(tmp_path, "get", "-", "db-password", stdin=text)
    assert (0, CANARY) == (done.exit_code, done.stdout)
    assert CANARY == (await environment(tmp_path, "-", stdin=text))["DB_PASSWORD"]
    done = await keyferry(tmp_path, "mount", "-", tmp_path / "target", stdin=text)
    assert (0, CANARY) == (done.exit_code, (tmp_path / "target/db-password").read_text())
    await run_cli("unmount", tmp_path / "target")
    done = await keyferry(tmp_path, "get", "-", "x", stdin=text.replace('"true"', "true"))
    assert 2 == done.exit_code
    assert "standard input line 19: " in done.stderr
    done = await keyferry(tmp_path, "get", "-", "x", stdin="")
    assert "there is no SecretProviderClass in standard input" in done.stderr


# --- get ------------------------------------------------------------------------------------------


async def test_get_writes_a_binary_value_byte_by_byte(tmp_path: Path, vault: DevVault) -> None:
    """Without a newline, so that it can be redirected to a file."""
    value = bytes(range(256))
    vault.set_secret("contoso", "blob", value.hex())
    path = spc_file(tmp_path, "objectName: blob\nobjectEncoding: hex")
    process = await start_cli("get", path, "blob", "--dev-vault", tmp_path / "devvault")
    out, _ = await process.communicate()
    assert (0, value) == (process.returncode, out)
    done = await keyferry(tmp_path, "run", path, "true")
    assert 125 == done.exit_code
    assert "blob cannot be an environment variable: the value contains a zero byte" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("db-password", CANARY), ("app/KEY", "second\n"), ("api-key", "second\n")]
)
async def test_get_accepts_name_alias_and_path(
    tmp_path: Path, vault: DevVault, name: str, value: str
) -> None:
    done = await keyferry(tmp_path, "get", spc_file(tmp_path), name)
    assert (0, value, "") == (done.exit_code, done.stdout, done.stderr)


async def test_get_of_an_unknown_object_lists_those_that_exist(
    tmp_path: Path, vault: DevVault
) -> None:
    done = await keyferry(tmp_path, "get", spc_file(tmp_path), "db-passwort")
    assert (2, "") == (done.exit_code, done.stdout)
    assert done.stderr == (
        "error: SecretProviderClass default/app has no object 'db-passwort'\n"
        "hint: Did you mean 'db-password'? It has: db-password (secret db-password), app/KEY"
        " (secret api-key).\n"
    )


async def test_file_of_a_template(tmp_path: Path, vault: DevVault) -> None:
    """It is printed; one that needs a missing optional object is not there."""
    spc = spc_file(tmp_path, "objectName: db-password", "objectName: nope\noptional: true")
    with spc.open("a") as file:
        file.write(
            "    templates: |\n"
            "      - {path: conf, template: 'p={{ db-password }}'}\n"
            "      - {path: lost, template: 'p={{ nope }}'}\n"
        )
    done = await keyferry(tmp_path, "get", spc, "conf")
    assert (0, f"p={CANARY}") == (done.exit_code, done.stdout)
    done = await keyferry(tmp_path, "get", spc, "lost")
    assert (3, "") == (done.exit_code, done.stdout)
    assert (
        "error: there is no file 'lost': its template needs an optional object that the vault does"
        " not have\n" in done.stderr
    )


async def test_missing_optional_object_is_a_warning(tmp_path: Path, vault: DevVault) -> None:
    """It fails only the command that prints it; the exit code is that of a required one."""
    spc = spc_file(tmp_path, "objectName: db-password", "objectName: nope\noptional: true")
    done = await keyferry(tmp_path, "get", spc, "db-password")
    assert (0, CANARY) == (done.exit_code, done.stdout)
    done = await keyferry(tmp_path, "get", spc, "nope")
    assert (3, "") == (done.exit_code, done.stdout)
    assert done.stderr == (
        "error: secret nope is an optional object that the vault does not have\n"
        "hint: Create or enable it in the vault, or set default in its entry of objects.\n"
    )
    assert "nope" not in await environment(tmp_path, spc)


@pytest.mark.parametrize(
    ("entry", "code", "shown"),
    [
        ("objectName: db-password", 0, f"{CANARY}\r\n"),
        ("objectName: api-key\nobjectAlias: db-password", 0, "second\r\n"),
        (
            "objectName: blob\nobjectAlias: db-password\nobjectEncoding: hex",
            2,
            "db-password is binary, and standard output is a terminal",
        ),
    ],
)
async def test_get_on_a_terminal_ends_the_line_and_refuses_binary_values(
    tmp_path: Path, vault: DevVault, entry: str, code: int, shown: str
) -> None:
    vault.set_secret("contoso", "blob", "00ff")
    master, terminal = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "keyferry", "get", "-q", str(spc_file(tmp_path, entry))),
        *("db-password", "--dev-vault", str(tmp_path / "devvault")),
        stdout=terminal,
        stderr=terminal,
        stdin=subprocess.DEVNULL,
    )
    os.close(terminal)
    assert code == await process.wait()
    text = await asyncio.to_thread(_read_all, master)
    assert shown == text if code == 0 else shown in text


def _read_all(descriptor: int) -> str:
    text = b""
    try:
        while part := os.read(descriptor, 4096):
            text += part
    except OSError:
        pass  # the terminal is closed
    os.close(descriptor)
    return text.decode()


# --- dynamic secrets ------------------------------------------------------------------------------


async def test_lease_lives_as_long_as_the_command(tmp_path: Path) -> None:
    """The command is a child of keyferry then; signals and the exit code pass through."""
    async with running_vault() as vault:
        policy = {"database/creds/*": {"read"}, "sys/leases/revoke": {"update"}}
        vault.tokens["t"] = FakeToken(policy, 1200, 1e9, renewable=False)
        entry = {"objectName": "db-user", "secretKey": "username", "secretPath": CREDENTIALS}
        manifest = {
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": {"name": "app"},
            "spec": {
                "provider": "vault",
                "parameters": {
                    **vault.parameters,
                    "vaultAuthMethod": "token",
                    "objects": json.dumps([entry]),
                },
            },
        }
        (tmp_path / "app.yaml").write_text(json.dumps(manifest))
        credentials = tmp_path / "token.yaml"
        credentials.write_text(json.dumps({"kind": "Secret", "stringData": {"token": "t"}}))
        process = await start_cli(
            *("run", tmp_path / "app.yaml", "--credentials", credentials, "--", "sh", "-c"),
            "trap 'exit 9' TERM; echo $DB_USER; while :; do sleep 0.05; done",
        )
        assert process.stdout
        printed = (await process.stdout.readline()).decode().strip()
        assert {printed} == vault.database_users
        process.send_signal(signal.SIGTERM)
        _, err = await process.communicate()
        assert (9, "") == (process.returncode, err.decode())
        assert set() == vault.database_users
