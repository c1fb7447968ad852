"""The command `keyferry`. Each sub-command is a module that is imported only when it is called."""

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
    """Knows its commands by name and imports the one that is called.

    The driver loads no command-line extras.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(_import_without_gc(module), name)
        return command


def _import_without_gc(module: str) -> ModuleType:
    """Imports a module, and keeps the garbage collector from what it brings along.

    All of that lives as long as the process. Looking through it again and again would take a tenth
    of the start, and 40 ms in the middle of a mount now and then.
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
    """Bring secrets from a vault to the pod: as files, and as Kubernetes Secrets kept in step.

    New here? Run `keyferry demo`.
    """


def main() -> None:
    """The entry point: errors of ours are one line on stderr and exit code 1, never a traceback."""
    try:
        keyferry(prog_name="keyferry")
    except KeyferryError as error:
        click.echo(f"keyferry: {error.stage.value}: {error}", err=True)
        sys.exit(1)
