"""The tables of the troubleshooting pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = tuple[str, str, str]
"""When it happens, the message, the remedy."""


def table(title: str, rows: Iterable[Row]) -> str:
    """A section with one table."""
    lines = [f"## {title}\n", "| when | message | what to do |", "|---|---|---|"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join([*lines, ""])


def cell(text: str) -> str:
    """Escape a text for a table cell."""
    # GitHub would take <...> for HTML.
    return text.replace("|", "\\|").replace("<", "&lt;")
