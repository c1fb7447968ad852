"""The tables of the troubleshooting pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = tuple[str, str, str]
"""When it happens, what the message says, what it advises."""


def table(title: str, rows: Iterable[Row]) -> str:
    """A section with one table."""
    lines = [f"## {title}\n", "| when | the message says | what to do |", "|---|---|---|"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join([*lines, ""])


def cell(text: str) -> str:
    """A text as it stands in a table."""
    # GitHub would take <...> for HTML.
    return text.replace("|", "\\|").replace("<", "&lt;")
