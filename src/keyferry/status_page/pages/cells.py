"""What the tables have in common: states, ages, versions and counts. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.inventory.ages import format_age
from keyferry.status_page.markup import Markup, h, join
from keyferry.status_page.workloads import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from keyferry.status_page.markup import Child
    from keyferry.status_page.query import Query

NOTHING = h("span", "\N{EN DASH}", class_="none")
_LONG_TEXT = 150
_BAR_WIDTH = 1000
_SHOWN_ITEMS = 4


def badge(state: State) -> Markup:
    """Return the state as a colored word."""
    return h("span", state.value.capitalize(), class_=f"badge {state.value}")


def tinted(text: str, state: State) -> Markup:
    """Return a text as a colored word, in the color of a state."""
    return h("span", text, class_=f"badge {state.value}")


def age(moment: datetime | None, now: datetime) -> Markup:
    """Return how long ago a time was."""
    if moment is None:
        return NOTHING
    return _time(f"{format_age((now - moment).total_seconds())} ago", moment)


def remaining(moment: datetime | None, now: datetime) -> Markup:
    """Return how soon a time is."""
    if moment is None:
        return NOTHING
    seconds = (moment - now).total_seconds()
    return _time(f"in {format_age(seconds)}" if seconds > 0 else "expired", moment)


def _time(text: str, moment: datetime) -> Markup:
    iso = moment.isoformat(timespec="seconds")
    return h("time", text, datetime=iso, title=iso, class_="age")


def version(text: str) -> Markup:
    """Return a version; a long one is cut off, and complete when it is copied or pointed at."""
    return h("code", text, class_="version", title=text) if text else NOTHING


def long_text(text: str) -> Markup:
    """Return a text; a long one shows its beginning, and the rest on demand."""
    if len(text) <= _LONG_TEXT:
        return h("div", text, class_="problem")
    summary = h("summary", text[: _LONG_TEXT - 20].rstrip() + "\N{HORIZONTAL ELLIPSIS}")
    return h("details", summary, h("div", text), class_="problem")


def item_list(entries: Sequence[Markup]) -> Markup:
    """Return a list; a long one shows its beginning, and the rest on demand."""
    if not entries:
        return NOTHING
    shown = [h("li", each) for each in entries[:_SHOWN_ITEMS]]
    if rest := entries[_SHOWN_ITEMS:]:
        more = h("ul", *(h("li", each) for each in rest), class_="items")
        shown.append(h("li", h("details", h("summary", f"{len(rest)} more"), more)))
    return h("ul", *shown, class_="items")


def link(text: Child, query: Query, path: str, **attributes: str) -> Markup:
    """Return a link to a page with filters."""
    return h("a", text, href=query.url(path), **attributes)


def count_link(count: int, meaning: str, query: Query, path: str, state: State) -> Markup:
    """Return the number of workloads in a state, as a link to them; only a dash for 0."""
    if not count:
        return NOTHING
    label = f"{count} {meaning}"
    return link(f"{count:,}", query, path, class_=f"tone {state.value}", aria_label=label)


def distribution(counts: Mapping[State, int]) -> Markup:
    """Return a bar with the share of each state."""
    total = sum(counts.values())
    order = [State.HEALTHY, State.PENDING, State.EXPIRING, State.STALE, State.FAILING]
    parts, position = [], 0.0
    for state in order:
        width = _BAR_WIDTH * counts.get(state, 0) / total if total else 0.0
        if width:
            x, size = f"{position:.1f}", f"{max(width, 6.0):.1f}"
            parts.append(h("rect", x=x, y=0, width=size, height=10, class_=state.value))
            position += width
    text = ", ".join(f"{counts[state]:,} {state}" for state in order if counts.get(state))
    label = text or "no workloads"
    return h(
        "svg",
        join(*parts),
        class_="dist",
        viewBox=f"0 0 {_BAR_WIDTH} 10",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def table(
    label: str, headings: Iterable[tuple[str, str]], rows: Iterable[Markup], *, after: Child = None
) -> Markup:
    """Return a table that scrolls sideways on a narrow screen.

    Args:
        label: of the table, for those who do not see it.
        headings: text and class of each column.
        rows: its rows.
        after: what follows below it.
    """
    head = h(
        "tr", *(h("th", text, scope="col", class_=class_ or None) for text, class_ in headings)
    )
    body = h("table", h("thead", head), h("tbody", *rows))
    region = h("div", body, class_="scroll", role="region", aria_label=label, tabindex=0)
    return h("div", region, after, class_="card")
