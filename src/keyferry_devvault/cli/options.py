"""Shared by the commands of `keyferry devvault`: errors, the data folder, secret input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from keyferry.cli.commands import Group
from keyferry.errors import RequestInvalidError
from keyferry_devvault.command_hints import CommandHints
from keyferry_devvault.storage.data import DevVaultData, has_data

Command = TypeVar("Command", bound=Callable[..., object])


class CommandGroup(Group):
    """A group whose commands have the options and the help of all commands of `keyferry`."""


def default_folder() -> Path:
    """Return the default data folder."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "keyferry" / "devvault"


def data_option(command: Command) -> Command:
    """Add the option `--data` to `command`."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=default_folder,
        show_default="~/.local/share/keyferry/devvault",
        help="Data folder of the development vault.",
    )(command)


def hints_for(folder: Path) -> CommandHints:
    """Return the commands for a data folder; they repeat `--data` unless it is the default."""
    return CommandHints(None if folder == default_folder() else folder)


def create_data(folder: Path) -> DevVaultData:
    """Open the data in `folder`, and create folder and data if they are missing.

    Raises:
        PlatformError: the folder or the data cannot be used.
    """
    return DevVaultData(folder, hints=hints_for(folder))


def open_data(folder: Path) -> DevVaultData:
    """Open the data in `folder`, for a command that only reads or changes what exists.

    Raises:
        PlatformError: the folder or the data cannot be used.
        RequestInvalidError: there is no data.
    """
    if not has_data(folder):
        hints = hints_for(folder)
        raise RequestInvalidError(
            f"there is no data of a development vault in {folder}",
            f"Check --data. To create it, store a secret: {hints.line('set', 'VAULT', 'NAME')}",
        )
    return create_data(folder)


def read_secret_text(label: str, file: str | None) -> str:
    """Return a secret from `file`, from a hidden prompt, or from stdin without one line end.

    It is never an argument, because every process of the machine can read arguments.

    Args:
        label: what is read, for the prompt and for errors.
        file: path of a file that is returned unmodified; `-` for stdin; None for prompt or stdin.

    Raises:
        RequestInvalidError: the file cannot be read, stdin is empty, or the content is not UTF-8.
    """
    if file is None and sys.stdin.isatty():
        return str(click.prompt(label, hide_input=True, confirmation_prompt=True))
    content = _read_bytes(file or "-")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # The text of the exception holds the bytes.
        raise RequestInvalidError(
            f"the {label} is not UTF-8 text",
            "Key Vault stores text only. Encode the value first, for example with base64.",
        ) from None
    if file is not None:
        return text
    if not text:
        raise RequestInvalidError(
            f"stdin contains no {label}", "Write it to stdin, or pass a file that contains it."
        )
    return text.removesuffix("\n")


def format_time(seconds: int) -> str:
    """Return Unix time `seconds` as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_bytes(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise RequestInvalidError(
            f"{file} cannot be read: {error.strerror}", "Pass a file that you can read."
        ) from error
