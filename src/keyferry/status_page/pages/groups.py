"""The workloads by namespace and by SecretProviderClass. [pure]"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, TypeVar

from keyferry.status_page.markup import Markup, h
from keyferry.status_page.pages.cells import (
    NOTHING,
    count_link,
    distribution,
    item_list,
    link,
    long_text,
    table,
    tinted,
)
from keyferry.status_page.pages.layout import (
    CLASSES,
    VAULTS,
    WORKLOADS,
    filters,
    page,
)
from keyferry.status_page.workloads import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keyferry.status_page.facts import ClassFacts
    from keyferry.status_page.pages.layout import Choices, Frame
    from keyferry.status_page.query import Query
    from keyferry.status_page.workloads import Workload

T = TypeVar("T")
MAX_ROWS = 500
_NO_CLASS = "No SecretProviderClass matches the filters."
_COUNTS = tuple((each.value.capitalize(), "num") for each in State)


def namespaces_page(frame: Frame, workloads: Sequence[Workload], choices: Choices) -> str:
    """Return the page with the states of the workloads of each namespace."""
    groups = _counted(workloads, lambda each: each.namespace)
    ordered = sorted(groups, key=lambda name: (_urgency(groups[name]), name))
    rows = [
        h(
            "tr",
            h(
                "th",
                link(name, frame.query.changed(namespace=name), WORKLOADS),
                scope="row",
                class_="name-cell",
            ),
            *_cells(groups[name], frame.query.changed(namespace=name), name),
        )
        for name in ordered[:MAX_ROWS]
    ]
    headings = (("Namespace", ""), ("Distribution", ""), *_COUNTS, ("Total", "num"))
    return page(
        frame,
        "Namespaces",
        "How many volumes of pods and Secrets of SecretSyncs are in which state.",
        filters(frame, choices),
        _section("Namespaces", headings, rows, len(groups), "No workload matches the filters."),
    )


def classes_page(
    frame: Frame, workloads: Sequence[Workload], classes: Iterable[ClassFacts], choices: Choices
) -> str:
    """Return the page with the states of the workloads of each SecretProviderClass.

    Args:
        frame: of the page.
        workloads: those that the filters select.
        classes: all of them; those without workloads are shown, too.
        choices: for the filters.
    """
    query = frame.query
    groups = _counted(workloads, lambda each: (each.namespace, each.class_name))
    known = {(each.namespace, each.name): each for each in classes if _selects(query, each)}
    groups |= {key: Counter() for key in known if key not in groups}

    def order(key: tuple[str, str]) -> tuple[object, ...]:
        return not _is_invalid(known.get(key)), _urgency(groups[key]), key

    ordered = sorted(groups, key=order)[:MAX_ROWS]
    rows = [_class_row(query, key, known.get(key), groups[key]) for key in ordered]
    headings = (
        ("SecretProviderClass", ""),
        ("Provider and vaults", ""),
        ("Distribution", ""),
        *_COUNTS,
        ("Total", "num"),
    )
    return page(
        frame,
        "SecretProviderClasses",
        "What each SecretProviderClass reads, and the state of the workloads that use it.",
        filters(frame, choices),
        _section("SecretProviderClasses", headings, rows, len(groups), _NO_CLASS),
    )


def _is_invalid(spc: ClassFacts | None) -> bool:
    return spc is not None and bool(spc.problem)


def _selects(query: Query, spc: ClassFacts) -> bool:
    """Return whether a SecretProviderClass is shown even without a selected workload."""
    if query.state is not None:
        return False
    wanted = query.text.casefold()
    texts = (spc.name, spc.namespace, spc.provider, *spc.vaults, spc.problem)
    return (
        query.namespace in ("", spc.namespace)
        and query.class_name in ("", spc.name)
        and (not query.vault or query.vault in spc.vaults)
        and (not wanted or any(wanted in text.casefold() for text in texts))
    )


def _class_row(
    query: Query, key: tuple[str, str], spc: ClassFacts | None, counts: Counter[State]
) -> Markup:
    namespace, name = key
    own = query.changed(namespace=namespace, class_name=name)
    where = h(
        "span",
        "in ",
        link(namespace, query.changed(namespace=namespace), CLASSES),
        class_="where",
    )
    heading = h("th", link(name, own, WORKLOADS), where, scope="row", class_="name-cell")
    return h("tr", heading, h("td", _source(query, spc)), *_cells(counts, own, name))


def _source(query: Query, spc: ClassFacts | None) -> Markup:
    if spc is None:
        return tinted("does not exist", State.FAILING)
    if spc.problem:
        return h("div", tinted("invalid", State.FAILING), long_text(spc.problem))
    vaults = [link(each, query.changed(vault=each), VAULTS) for each in spc.vaults]
    return h("div", spc.provider, item_list(vaults) if vaults else None)


def _section(
    label: str,
    headings: Iterable[tuple[str, str]],
    rows: Sequence[Markup],
    total: int,
    empty: str,
) -> Markup:
    if not rows:
        return h(
            "section", h("div", h("p", empty, class_="empty"), class_="card"), class_="section"
        )
    more = total - len(rows)
    after = (
        h("p", f"{more:,} more are not shown. Use the filters.", class_="empty") if more else None
    )
    return h("section", table(label, headings, rows, after=after), class_="section")


def _counted(
    workloads: Iterable[Workload], key: Callable[[Workload], T]
) -> dict[T, Counter[State]]:
    """Return the number of workloads in each state, by group."""
    found: dict[T, Counter[State]] = defaultdict(Counter)
    for workload in workloads:
        found[key(workload)][workload.state] += 1
    return dict(found)


def _urgency(counts: Counter[State]) -> tuple[int, ...]:
    """Return what sorts groups: those with the most failing workloads first, then stale, ..."""
    return tuple(-counts[state] for state in State if state is not State.HEALTHY)


def _cells(counts: Counter[State], query: Query, name: str) -> list[Markup]:
    cells = [h("td", distribution(counts) if counts else NOTHING, class_="dist-cell")]
    for state in State:
        target = query.changed(state=state)
        meaning = f"{state} in {name}"
        cells.append(
            h("td", count_link(counts[state], meaning, target, WORKLOADS, state), class_="num")
        )
    return [*cells, h("td", f"{counts.total():,}", class_="num")]
