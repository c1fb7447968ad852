"""The list of workloads, and the table that the overview has of the most urgent ones. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.status_page.markup import Markup, h, join
from keyferry.status_page.pages.cells import (
    age,
    badge,
    distribution,
    item_list,
    link,
    long_text,
    remaining,
    table,
    version,
)
from keyferry.status_page.pages.layout import CLASSES, WORKLOADS, filters, page
from keyferry.status_page.workloads import count_states

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from keyferry.status_page.pages.layout import Choices, Frame
    from keyferry.status_page.query import Query
    from keyferry.status_page.workloads import Item, Workload

PAGE_SIZE = 100
_HEADINGS = (
    ("State", ""),
    ("Workload", ""),
    ("SecretProviderClass", ""),
    ("Objects and versions", ""),
    ("Updated", ""),
    ("Expires", ""),
    ("Problem", ""),
)


def workloads_page(frame: Frame, workloads: Sequence[Workload], choices: Choices) -> str:
    """Return the page with the workloads that the filters select, in pages.

    Args:
        frame: of the page.
        workloads: those that the filters select.
        choices: for the filters.
    """
    pages = max((len(workloads) + PAGE_SIZE - 1) // PAGE_SIZE, 1)
    number = min(frame.query.page, pages)
    shown = workloads[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    counts = count_states(workloads)
    bar = h("div", distribution(counts), class_="wide-dist") if workloads else None
    return page(
        frame,
        "Workloads",
        "Volumes of pods, and Secrets of SecretSyncs, with the versions that they have.",
        filters(frame, choices),
        bar,
        h(
            "section",
            workload_table(
                shown,
                frame.query,
                frame.read_at,
                label="Workloads",
                after=_pager(frame, len(workloads), number, pages),
            )
            if shown
            else h("div", h("p", _empty(frame.query), class_="empty"), class_="card"),
            class_="section",
        ),
    )


def _empty(query: Query) -> str:
    if query.has_filter():
        return "No workload matches the filters."
    return "No pod has a volume of the driver, and there are no SecretSyncs."


def workload_table(
    workloads: Iterable[Workload],
    query: Query,
    now: datetime,
    *,
    label: str,
    after: Markup | None = None,
) -> Markup:
    """Return a table of workloads; see `table`."""
    return table(label, _HEADINGS, (_row(each, query, now) for each in workloads), after=after)


def _row(workload: Workload, query: Query, now: datetime) -> Markup:
    namespace, name = workload.namespace, workload.name
    in_namespace = link(namespace, query.changed(namespace=namespace), WORKLOADS)
    where = f" on {workload.node}" if workload.node else ""
    place = h("span", f"{workload.kind} in ", in_namespace, where, class_="where")
    of_class = query.changed(namespace=namespace, class_name=workload.class_name)
    return h(
        "tr",
        h("td", badge(workload.state)),
        h("th", name, place, scope="row", class_="name-cell"),
        h("td", link(workload.class_name, of_class, CLASSES), class_="name-cell"),
        h("td", item_list([_item(each) for each in workload.items])),
        h("td", age(workload.updated_at, now)),
        h("td", remaining(workload.expires_at, now)),
        h("td", long_text(workload.problem) if workload.problem else _notes(workload)),
    )


def _item(item: Item) -> Markup:
    return join(h("span", item.id, class_="id"), " ", version(item.version))


def _notes(workload: Workload) -> Markup:
    """Return what is wrong with the objects of a workload that has no problem as a whole."""
    notes = [f"{each.id}: {each.note}" for each in workload.items if each.note]
    return long_text("\n".join(notes))


def _pager(frame: Frame, total: int, number: int, pages: int) -> Markup | None:
    first, last = (number - 1) * PAGE_SIZE + 1, min(number * PAGE_SIZE, total)
    text = f"{first:,} to {last:,} of {total:,}"
    links = [
        link(name, frame.query.changed(page=target), WORKLOADS, rel=rel)
        for name, target, rel in (("Previous", number - 1, "prev"), ("Next", number + 1, "next"))
        if 1 <= target <= pages
    ]
    return h("div", h("span", text), h("span", *links), class_="pager")
