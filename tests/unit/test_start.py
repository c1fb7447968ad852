"""What a process loads before it is ready: every import is paid for by each start of each node."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = ("httpcore2", "anyio", "cryptography", "azure", "keyferry_devvault", "joserfc")
"""For other commands, for one kind of object, or replaced by something cheaper."""


def _said(program: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("library", LATER)
def test_the_driver_starts_without(library: str) -> None:
    """With the Kubernetes API and all providers."""
    modules = (
        "cli.driver",
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
