"""What the commands that serve have in common: flags, and how they begin."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from keyferry import __version__
from keyferry.cli.console import console
from keyferry.cli.exit_codes import ExitCode
from keyferry.cli.flags.go_flags import (
    FlagError,
    FlagKind,
    GoFlag,
    help_text,
    parse_flags,
    warn_ignored,
)
from keyferry.errors import SettingInvalidError
from keyferry.process import prepare_daemon
from keyferry.telemetry.help_links import DEFAULT_HELP_URL
from keyferry.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.cli.flags.go_flags import ParsedFlags

KUBECONFIG_FLAG = GoFlag(
    "kubeconfig",
    FlagKind.STRING,
    "",
    "kubeconfig file (default: $KUBECONFIG, the service account of the pod, ~/.kube/config)",
)
LOG_FLAGS = (
    GoFlag("log-format-json", FlagKind.BOOL, "false", "log JSON instead of text"),
    GoFlag("v", FlagKind.INT, "0", "log verbosity; 2 logs the details of each call"),
)
HELP_URL_FLAG = GoFlag(
    "help-url",
    FlagKind.STRING,
    DEFAULT_HELP_URL,
    "page that events of problems link to, with an anchor; {version} is that of Keyferry; empty: no"
    " links",
)
DEV_VAULT_FLAG = GoFlag(
    "dev-vault",
    FlagKind.STRING,
    "",
    "DEVELOPMENT ONLY: data folder of the `keyferry devvault` that receives all requests",
)


def read_flags(
    words: Sequence[str], flags: Sequence[GoFlag], *, command: str, usage: str
) -> ParsedFlags:
    """Return the flags of a command line. Exits after `--help`, and if they are invalid.

    Args:
        words: the command line after the command.
        flags: of the command.
        command: as the user writes it.
        usage: what `--help` prints before the flags.
    """
    try:
        parsed = parse_flags(words, flags)
    except FlagError as error:
        console().error(str(error), f"Run '{command} --help' for the flags.")
        sys.exit(ExitCode.INVALID)
    if parsed.wants_help:
        click.echo(f"{usage}\nFlags:\n{help_text(flags)}")
        sys.exit(ExitCode.DONE)
    return parsed


def help_url(flags: ParsedFlags) -> str:
    """Return the value of `HELP_URL_FLAG`.

    Raises:
        SettingInvalidError: it is not the address of a page.
    """
    url = str(flags.values["help-url"])
    if url and not re.fullmatch(r"https?://[^\s#]+", url):
        raise SettingInvalidError(
            "--help-url is not the address of a page",
            "Set it to an address that begins with https://, without an anchor, or to nothing.",
        )
    return url.replace("{version}", __version__)


def begin_daemon(flags: ParsedFlags) -> None:
    """Prepare the process and its log, and warn of flags that have no effect."""
    prepare_daemon()
    configure_logs(as_json=bool(flags.values["log-format-json"]), verbosity=int(flags.values["v"]))
    warn_ignored(flags)
