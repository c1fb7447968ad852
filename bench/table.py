"""Tables of figures, as text for a terminal and as Markdown. [pure]"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from bench.runs import Spread

_END = "<!-- end -->"


@dataclass
class Table:
    """A table. The first column is text; `numeric` says which of the others are numbers.

    Attributes:
        head: names of the columns.
        numeric: whether a column is aligned to the right, one per column.
        rows: cells.
    """

    head: Sequence[str]
    numeric: Sequence[bool]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rule = ["---:" if right else "---" for right in self.numeric]
        lines = [f"| {' | '.join(self.head)} |", f"|{'|'.join(rule)}|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def text(self, wrap: Sequence[int] = ()) -> str:
        """Return the table with aligned columns; a row with one cell is a heading.

        Args:
            wrap: largest width of each column in characters; empty for no limit.
        """
        full = [self.head, *(row for row in self.rows if len(row) > 1)]
        widths = [max(len(cell) for cell in column) for column in zip(*full, strict=True)]
        if wrap:
            widths = [min(pair) for pair in zip(widths, wrap, strict=True)]
        lines = [*self._lines(self.head, widths), "  ".join("-" * width for width in widths)]
        for row in self.rows:
            lines += self._lines(row, widths) if len(row) > 1 else ["", row[0]]
        return "\n".join(lines) + "\n"

    def _lines(self, cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
        wrapped = [
            textwrap.wrap(cell, width) if width else []
            for cell, width in zip(cells, widths, strict=True)
        ]
        for line in zip_longest(*wrapped, fillvalue=""):
            aligned = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, self.numeric, strict=True)
            )
            yield "  ".join(aligned).rstrip()


def number(value: float) -> str:
    """Return a number with three digits, or as a whole number from 100."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def short_number(value: float) -> str:
    """Return a number with the precision that matters to a reader of a summary."""
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if value >= 20 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def value_cell(spread: Spread | None, unit: str = "") -> str:
    """Return the median, and in brackets the smallest and the largest value if they differ.

    Args:
        spread: the figure; None gives an empty cell.
        unit: with a space in front.
    """
    if spread is None:
        return ""
    low, high = number(spread.low), number(spread.high)
    range_ = f" ({low}-{high})" if low != high else ""
    return f"{number(spread.median)}{unit}{range_}"


def ratio_cell(value: Spread | None, base: Spread | None) -> str:
    """Return the ratio of two medians; empty if a value is missing."""
    if value is None or base is None or not base.median:
        return ""
    return f"{value.median / base.median:.1f} x"


def with_parts(page: str, parts: Mapping[str, str]) -> str:
    """Return a page with the text of each part in place of the present one.

    Args:
        page: has `<!-- figures: NAME -->`, the text, and `<!-- end -->` for each part.
        parts: texts by name.

    Raises:
        ValueError: the page has no place for a part.
    """
    for name, text in parts.items():
        begin = f"<!-- figures: {name} -->\n"
        before, _, rest = page.partition(begin)
        _, found, after = rest.partition(_END)
        if not found:
            raise ValueError(f"the page has no line {begin.strip()} with {_END} after it")
        page = f"{before}{begin}{text}{_END}{after}"
    return page
