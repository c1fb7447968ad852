"""The command `keyferry`. Each sub-command is a module that is imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from keyferry import __version__
from keyferry.errors import KeyferryError

_COMMANDS = {
    "demo": ("keyferry.cli.demo", "demo"),
    "mount": ("keyferry.cli.mount", "mount"),
    "unmount": ("keyferry.cli.mount", "unmount"),
    "devvault": ("keyferry.cli.devvault", "devvault"),
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
        command: click.Command = getattr(import_module(module), name)
        return command


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
        click.echo(f"keyferry: {error.hop.value}: {error}", err=True)
        sys.exit(1)
