"""What the commands of `keyferry devvault` share: error lines, the data folder, secret input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from keyferry.errors import KeyferryError, RequestInvalidError

Command = TypeVar("Command", bound=Callable[..., object])


class CommandGroup(click.Group):
    """A group whose commands end with one line on stderr and exit code 1 when Keyferry refuses."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the line names."""
        try:
            return super().invoke(ctx)
        except KeyferryError as error:
            raise click.ClickException(str(error)) from error


def default_folder() -> Path:
    """Where a development vault keeps its data unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "keyferry" / "devvault"


def data_option(command: Command) -> Command:
    """Add `--data`."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_folder,
        show_default="~/.local/share/keyferry/devvault",
        help="The folder of the development vault.",
    )(command)


def read_secret_text(label: str, file: str | None) -> str:
    """A secret from `file` (`-`: stdin) as it stands, typed unseen, or piped in less one line end.

    It is never an argument: arguments can be read by every process of the machine.

    Raises:
        RequestInvalidError: the file cannot be read, nothing was piped in, or it is not text.
    """
    if file is None and sys.stdin.isatty():
        return str(click.prompt(label, hide_input=True, confirmation_prompt=True))
    content = _read_bytes(file or "-")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # The text of the exception holds the bytes.
        raise RequestInvalidError(
            f"the {label} is not UTF-8 text", "Key Vault holds text: encode it first, as base64."
        ) from None
    if file is not None:
        return text
    if not text:
        raise RequestInvalidError(
            f"no {label} came in on stdin", "Pipe it in, or name a file that holds it."
        )
    return text.removesuffix("\n")


def format_time(seconds: int) -> str:
    """A moment as people read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _read_bytes(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise RequestInvalidError(f"{file} cannot be read: {error.strerror}") from error
