"""What a process loads before it is ready: every import is paid for by each start of each node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keyferry_devvault.storage.data import DevVaultData

LATER = ("httpcore2", "anyio", "cryptography", "azure", "keyferry_devvault", "joserfc", "jmespath")
"""For other commands, for one kind of object, or replaced by something cheaper."""


def _said(program: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("library", LATER)
def test_the_driver_starts_without(library: str) -> None:
    """With the Kubernetes API and all providers."""
    modules = (
        "cli.daemons.driver",
        "kubernetes.api.store",
        "providers.azure.provider",
        "providers.vault.provider",
    )
    imports = "".join(f"import keyferry.{module}\n" for module in modules)
    assert "False" == _said(f"import sys\n{imports}print({library!r} in sys.modules)")


def test_the_collector_looks_for_garbage_but_not_among_what_was_imported() -> None:
    """It is on when the command runs, and the modules are out of its way."""
    program = (
        "import gc, click, keyferry.cli as cli\n"
        "cli.keyferry.get_command(click.Context(cli.keyferry), 'driver')\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 30_000)"
    )
    assert "True True" == _said(program)


HEAVY = (
    "aiohttp",
    "asyncio",
    "cryptography",
    "google.protobuf",
    "grpc",
    "joserfc",
    "lightkube",
    "rich",
    "ssl",
)
"""What only a command that runs needs; a help page or a read of the emulator must not wait."""
HELP = (
    "--help",
    "--version",
    "version",
    "completion bash",
    "mount --help",
    "unmount --help",
    "run --help",
    "get --help",
    "devvault --help",
    "devvault list contoso",
    "devvault get contoso db",
    "devvault status",
    "devvault policy contoso",
    "devvault identity list",
)


def _modules(arguments: list[str]) -> set[str]:
    """The modules that a command imports."""
    program = (
        "import contextlib, io, sys\n"
        "from keyferry.cli import keyferry\n"
        "from keyferry.cli.failures import run_command\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    code = run_command(keyferry, {arguments!r}, name='keyferry')\n"
        "assert code == 0, code\n"
        "print(*sys.modules)"
    )
    return set(_said(program).split())


@pytest.mark.parametrize("command", HELP)
def test_a_command_that_only_reads_imports_no_engine(command: str, tmp_path: Path) -> None:
    """So that it starts in a tenth of a second."""
    arguments = command.split()
    if arguments[0] == "devvault" and "--help" not in arguments:
        with DevVaultData(tmp_path) as data:
            data.secrets.set("contoso", "db", "x")
        arguments += ["--data", str(tmp_path)]
    imported = _modules(arguments)
    assert [] == [library for library in HEAVY if library in imported]


@pytest.mark.parametrize("command", ["driver --help", "provider azure --help"])
def test_help_of_a_daemon_imports_neither_grpc_nor_aiohttp(command: str) -> None:
    assert not {"grpc", "aiohttp", "cryptography"} & _modules(command.split())
