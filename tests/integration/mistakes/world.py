"""What the commands run against: an emulator, a HashiCorp Vault, and a used port, in a thread."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

import msgspec

from tests.fakes.devvault import DevVault, running_devvault
from tests.fakes.mounts import mounted_below, unmount_below
from tests.fakes.vault_api import VaultApi, running_vault
from tests.fakes.vault_auth import service_account_token
from tests.integration.mistakes.command_server import CommandReply, CommandRequest
from tests.integration.mistakes.mistake import APP, CANARY, CLIENT, TENANT, Mistake

T = TypeVar("T")
CLOSED_PORT = 9  # discard, which nothing serves
_REPOSITORY = Path(__file__).parents[3]
_ACCOUNT = "shop/web"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a mistake showed, without what differs from run to run."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams, as on a terminal."""
        return self.stdout + self.stderr


class World:
    """Runs mistakes."""

    def __init__(
        self, home: Path, server: subprocess.Popen[bytes], vault: VaultApi, busy: str
    ) -> None:
        self._home = home
        self._server = server
        self._vault = vault
        self._busy = busy
        self._count = 0

    def run(self, mistake: Mistake) -> Outcome:
        """Make the mistake in a new folder."""
        folder = self._new_folder(mistake)
        if mistake.fault:
            self._tune(folder, "--fault", mistake.fault)
        self._vault.fault = mistake.vault_fault
        command = mistake.command.replace("{busy}", self._busy).replace("{home}", str(folder))
        words = shlex.split(command)
        try:
            reply = self._command(folder, words, stdin=mistake.stdin, **mistake.environ)
        finally:
            self._vault.fault = None
            if mistake.fault:
                self._tune(folder, "--clear")
        stdout, stderr = (self._normalize(text, folder) for text in (reply.stdout, reply.stderr))
        return Outcome(reply.exit_code, stdout, stderr)

    def _tune(self, folder: Path, *options: str) -> None:
        reply = self._command(folder, ("devvault", "tune", "--data", "vault", *options))
        assert reply.exit_code == 0, reply

    def _new_folder(self, mistake: Mistake) -> Path:
        self._count += 1
        folder = self._home / f"home-{self._count}"
        folder.mkdir()
        for shared in ("vault", "dead", "tokens.json", "azure-tokens.json"):
            (folder / shared).symlink_to(self._home / shared)
        address = self._vault.parameters["vaultAddress"]
        for name, content in mistake.files.items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
                continue
            text = content.replace("{vault}", address)
            text = text.replace("{vault-with-https}", address.replace("http:", "https:"))
            (folder / name).write_text(text)
        if mistake.prepare:
            mistake.prepare(folder)
        _give_to_nobody(folder)
        return folder

    def _command(
        self, folder: Path, argv: tuple[str, ...] | list[str], *, stdin: str = "", **environ: str
    ) -> CommandReply:
        environ = {"COLUMNS": "100", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **environ}
        request = CommandRequest(tuple(argv), str(folder), environ, stdin)
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(msgspec.json.encode(request) + b"\n")
        self._server.stdin.flush()
        return msgspec.json.decode(self._server.stdout.readline(), type=CommandReply)

    def _normalize(self, text: str, folder: Path) -> str:
        text = text.replace(str(folder), "/home/you").replace(str(self._home), "/home/you")
        text = text.replace(self._busy, "127.0.0.1:8443")
        text = re.sub(r"^\w+: waiting for .*\n", "", text, flags=re.MULTILINE)  # after 3 s
        text = re.sub(r"^[IW]\d{4} .*\n", "", text, flags=re.MULTILINE)  # the log of a daemon
        text = re.sub(r"(127\.0\.0\.1):(?!8443)\d{4,5}", r"\1:8200", text)
        text = re.sub(r"in \d+ ms", "in 12 ms", text)
        text = re.sub(r"\(\d+ tries\)", "(4 tries)", text)
        return re.sub(r"\b[0-9a-f]{32}\b", "0123456789abcdef0123456789abcdef", text)


@contextmanager
def running_world() -> Iterator[World]:
    """Start everything that the commands need, and remove it at the end."""
    home = Path(mkdtemp(prefix="kf-mistakes-"))
    home.chmod(0o755)
    try:
        with (
            _loop_thread() as loop,
            _services(loop, home) as vault,
            _used_port() as busy,
            _command_server(home) as server,
        ):
            yield World(home, server, vault, busy)
    finally:
        unmount_below(home) if mounted_below(home) else None
        for path in home.rglob("closed"):
            path.chmod(0o700)
        shutil.rmtree(home, onerror=_open_and_retry)


@contextmanager
def _services(loop: asyncio.AbstractEventLoop, home: Path) -> Iterator[VaultApi]:
    stop = asyncio.Event()
    ready: asyncio.Future[VaultApi] = asyncio.Future(loop=loop)

    async def serve() -> None:
        async with running_devvault(home) as azure, running_vault() as vault:
            _fill_azure(azure)
            _fill_vault(vault)
            tokens = azure.service_account_token(
                f"system:serviceaccount:{_ACCOUNT.replace('/', ':')}"
            )
            (home / "azure-tokens.json").write_text(tokens)
            ready.set_result(vault)
            await stop.wait()

    running = asyncio.run_coroutine_threadsafe(serve(), loop)
    vault = _result(loop, ready)
    (home / "vault").symlink_to(home / "devvault")
    # Not the database: to close a copied file here would release SQLite's locks of the emulator.
    copied = shutil.ignore_patterns("*.sqlite3*")
    shutil.copytree(home / "devvault", home / "dead", ignore=copied)
    connection = json.loads((home / "vault/connection.json").read_text())
    dead = {**connection, "https": f"127.0.0.1:{CLOSED_PORT}", "http": f"127.0.0.1:{CLOSED_PORT}"}
    (home / "dead/connection.json").write_text(json.dumps(dead))
    token = service_account_token(_ACCOUNT, "vault", pod="web-0")
    entry = {"token": token, "expirationTimestamp": "2030-01-01T00:00:00Z"}
    (home / "tokens.json").write_text(json.dumps({"vault": entry}))
    _give_to_nobody(home, but=home)
    try:
        yield vault
    finally:
        loop.call_soon_threadsafe(stop.set)
        running.result(60)


def _result(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> T:
    async def wait() -> T:
        return await future

    return asyncio.run_coroutine_threadsafe(wait(), loop).result(60)


def _fill_azure(azure: DevVault) -> None:
    azure.add_managed_identity(CLIENT, tenant=TENANT)
    azure.add_app(APP, tenant=TENANT, secret=f"{CANARY}-client")
    for name in ("db-password", "api-key", "disabled", "deleted"):
        azure.set_secret("contoso", name, f"{CANARY}-value")
    for name, text in _TEXTS.items():
        azure.set_secret("contoso", name, text)
    azure.set_secret("fabrikam", "db-password", f"{CANARY}-value")
    azure.disable("contoso", "disabled")
    azure.delete("contoso", "deleted")
    azure.grant("contoso", CLIENT, "get", "list")
    azure.grant("contoso", APP, "get", "list")


_TEXTS = {
    "document": json.dumps({"database": {"user": "shop", "password": CANARY}, "port": 5432}),
    "list": json.dumps([CANARY, CANARY]),
    "keys": json.dumps({"../a": CANARY, "b": CANARY}),
    "text": f"user: shop\npassword: {CANARY}\n",
    "broken": f"user: shop\n  password: {CANARY}\n",
    "quoted": f"{CANARY}'s",
}
"""Secrets with structured values."""


def _fill_vault(vault: VaultApi) -> None:
    rights = {"secret/data/db": {"read"}, "secret/data/shop/*": {"read"}, "secret/db": {"read"}}
    vault.add_role("shop", accounts=[_ACCOUNT], policy=rights, audience="vault")
    vault.write("secret", "db", {"username": "app", "password": f"{CANARY}-vault"})


@contextmanager
def _loop_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


@contextmanager
def _used_port() -> Iterator[str]:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        yield f"127.0.0.1:{used.getsockname()[1]}"


@contextmanager
def _command_server(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    module = "tests.integration.mistakes.command_server"
    with subprocess.Popen(
        (sys.executable, "-m", module),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_REPOSITORY,
    ) as server:
        try:
            yield server
        finally:
            assert server.stdin
            server.stdin.close()
            server.wait(60)


def _give_to_nobody(folder: Path, *, but: Path | None = None) -> None:
    """Let the user own everything below the folder, where the commands run as nobody."""
    if os.geteuid() != 0:
        return
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        if path != but:
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def _open_and_retry(function: Callable[[str], object], path: str, _error: object) -> None:
    Path(path).parent.chmod(0o700)
    if Path(path).is_dir():
        Path(path).chmod(0o700)
        shutil.rmtree(path)
    else:
        function(path)
