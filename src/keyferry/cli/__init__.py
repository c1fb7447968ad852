"""The command `keyferry`. The module of a sub-command is imported when the command runs."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

import click

from keyferry import __version__
from keyferry.errors import KeyferryError
from keyferry.providers.emulator import INSTALL_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMANDS: Final = {
    "mount": ("keyferry.cli.mount", "mount"),
    "unmount": ("keyferry.cli.mount", "unmount"),
    "driver": ("keyferry.cli.driver", "driver"),
    "provider": ("keyferry.cli.provider", "provider"),
}

_ENTRY_POINTS: Final = "keyferry.commands"
"""The group of the entry points by which other distributions add commands."""

_EMULATOR_COMMANDS: Final = ("demo", "devvault")
"""The commands of the distribution `keyferry-devvault`, for a clear error without it."""


class _LazyGroup(click.Group):
    """Imports only the command that runs, so that each process loads only what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*sorted(entry_points(group=_ENTRY_POINTS).names), *_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            module, name = _COMMANDS[cmd_name]
            return _without_gc(lambda: getattr(import_module(module), name))
        for entry_point in entry_points(group=_ENTRY_POINTS, name=cmd_name):
            return _without_gc(entry_point.load)
        if cmd_name in _EMULATOR_COMMANDS:
            raise click.UsageError(
                f"'keyferry {cmd_name}' is not installed. Run: {INSTALL_COMMAND}"
            )
        return None


def _without_gc(load: Callable[[], click.Command]) -> click.Command:
    """Import a command and exclude its objects from garbage collection.

    They live as long as the process. Scanning them would take a tenth of the start time, and
    occasionally 40 ms in the middle of a mount.
    """
    gc.disable()
    try:
        return load()
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
