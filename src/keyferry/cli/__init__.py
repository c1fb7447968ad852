"""The command `keyferry`. The module of a sub-command is imported when the command runs."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from keyferry import __version__
from keyferry.errors import KeyferryError

if TYPE_CHECKING:
    from types import ModuleType

_COMMANDS = {
    "demo": ("keyferry_devvault.demo.walkthrough", "demo"),
    "mount": ("keyferry.cli.mount", "mount"),
    "unmount": ("keyferry.cli.mount", "unmount"),
    "devvault": ("keyferry_devvault.cli.server", "devvault"),
    "driver": ("keyferry.cli.driver", "driver"),
    "provider": ("keyferry.cli.provider", "provider"),
}


class _LazyGroup(click.Group):
    """Imports only the command that runs, so that each process loads only what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(_import_without_gc(module), name)
        return command


def _import_without_gc(module: str) -> ModuleType:
    """Import a module and exclude its objects from garbage collection.

    They live as long as the process. Scanning them would take a tenth of the start time, and
    occasionally 40 ms in the middle of a mount.
    """
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def keyferry() -> None:
    """Deliver secrets from a vault to pods, as files and as synced Kubernetes Secrets.

    Run `keyferry demo` to see the complete flow.
    """


def main() -> None:
    """Run the command line. A KeyferryError is one line on stderr and exit code 1."""
    try:
        keyferry(prog_name="keyferry")
    except KeyferryError as error:
        click.echo(f"keyferry: {error.stage.value}: {error}", err=True)
        sys.exit(1)
