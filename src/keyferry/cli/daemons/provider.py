"""`keyferry provider NAME`: one built-in provider on a socket, for clusters with another driver."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import FlagCommand
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.flags.daemons import read_flags
from keyferry.cli.flags.go_flags import completions
from keyferry.cli.flags.provider_commands import provider_command
from keyferry.providers.registry import provider_names

if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP = f"""\
Usage: keyferry provider NAME [flags]

Serve one built-in provider on a socket, for the upstream driver.

NAME is one of: {", ".join(provider_names())}.
`keyferry provider NAME --help` lists the flags.

Examples:
  keyferry provider azure --endpoint=unix:///provider/azure.sock
"""


def _flags_after(words: Sequence[str]) -> list[tuple[str, str]]:
    known = [word for word in words if word in provider_names()]
    return completions(provider_command(known[0]).flags) if known else []


def _complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    chosen = ctx.params.get(str(param.name)) or ()
    return [] if chosen else [name for name in provider_names() if name.startswith(incomplete)]


@click.command(
    cls=FlagCommand,
    flags=_flags_after,
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, shell_complete=_complete_name)
def provider(arguments: tuple[str, ...]) -> None:
    """Serve one built-in provider on a socket, for the upstream driver."""
    name, *rest = arguments or ("",)
    if name in {"", "-h", "--help"}:
        click.echo(_HELP, err=not name)
        sys.exit(ExitCode.DONE if name else ExitCode.INVALID)
    if name not in provider_names():
        console().error(
            f"there is no built-in provider {name!r}",
            f"Choose from: {', '.join(provider_names())}.",
        )
        sys.exit(ExitCode.INVALID)
    command = provider_command(name)
    usage = (
        f"Usage: keyferry provider {name} [flags]\n\n"
        f"Serve the built-in provider {name} on a socket, for the upstream driver.\n\n"
        "Examples:\n"
        f"  keyferry provider {name} --endpoint=unix:///provider/{name}.sock\n"
    )
    parsed = read_flags(rest, command.flags, command=f"keyferry provider {name}", usage=usage)
    if parsed.values["version"]:
        print(command.version(parsed))
    else:
        from keyferry.cli.daemons.provider_service import serve_provider

        serve_provider(name, command, parsed)
