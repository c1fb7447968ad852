"""Prints what a command lists as a table, JSON or YAML: the option `-o`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

_GAP: Final = "  "
_NOTHING: Final = "-"


class OutputFormat(StrEnum):
    """The values of `-o`."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def clear_screen() -> None:
    """Clear the terminal, so that the next text is at its top."""
    click.echo("\x1b[H\x1b[2J\x1b[3J", nl=False)


def output_option(command: Command) -> Command:
    """Add the option `-o/--output`, whose value is the argument `output`, an `OutputFormat`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([str(choice) for choice in OutputFormat]),
        default=str(OutputFormat.TABLE),
        show_default=True,
        callback=lambda _ctx, _param, value: OutputFormat(value),
        help="Output format.",
    )(command)


def print_list(
    rows: Sequence[Mapping[str, object]],
    columns: Mapping[str, str],
    output: OutputFormat,
    *,
    empty: str,
) -> None:
    """Print `rows` on stdout.

    Args:
        rows: the keys are lower camel case, as in the Kubernetes API. JSON and YAML show all keys.
        columns: heading -> key of a row, in the order of the table.
        output: the format.
        empty: what a table without rows says on stderr, such as `no secrets in vault contoso`.
    """
    if output is not OutputFormat.TABLE:
        print_document(rows, output)
    elif rows:
        cells = [[table_cell(row.get(key)) for key in columns.values()] for row in rows]
        click.echo(format_table([list(columns), *cells]))
    else:
        click.echo(empty, err=True)


def print_details(details: Mapping[str, object], output: OutputFormat) -> None:
    """Print one object on stdout, as a table with a line for each value that is not empty.

    Args:
        details: the keys are lower camel case; the table shows them as words.
        output: the format.
    """
    if output is not OutputFormat.TABLE:
        print_document(details, output)
        return
    cells = ((_words(key), table_cell(value)) for key, value in details.items())
    click.echo(format_table([row for row in cells if row[1] != _NOTHING]))


def print_document(document: object, output: OutputFormat) -> None:
    """Print `document` on stdout as JSON or YAML; the caller prints a table itself."""
    plain = _plain(document)
    if output is OutputFormat.YAML:
        from keyferry.formats.kubernetes_yaml import dump_document  # PyYAML takes 20 ms to import

        click.echo(dump_document(plain), nl=False)
    else:
        click.echo(json.dumps(plain, indent=2))


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` of the same length as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def table_cell(value: object) -> str:
    """Return a value as a table shows it, on one line."""
    match value:
        case None | "":
            return _NOTHING
        case bool():
            return str(value).lower()
        case Mapping():
            return ",".join(f"{key}={table_cell(item)}" for key, item in value.items()) or _NOTHING
        case str():
            return "".join(char if char.isprintable() else "?" for char in value)
        case Sequence():
            return ",".join(table_cell(item) for item in value) or _NOTHING
        case _:
            return str(value)


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return `number` with its noun: `1 secret`, `2 secrets`."""
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"


def _words(key: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", key).lower()


def _plain(value: object) -> Any:
    """Return `value` in the types that the encoders know, as valid Unicode."""
    match value:
        case str():
            return str(value).encode("utf-8", "replace").decode()
        case Mapping():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case Sequence():
            return [_plain(item) for item in value]
        case _:
            return value
