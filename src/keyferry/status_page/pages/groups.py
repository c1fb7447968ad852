"""The workloads by namespace and by SecretProviderClass. [pure]"""

from __future__ import annotations

from collections import defaultdict
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
from keyferry.status_page.workloads import State, count_states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from keyferry.status_page.facts import ClassFacts
    from keyferry.status_page.pages.layout import Choices, Frame
    from keyferry.status_page.query import Query
    from keyferry.status_page.workloads import Workload

T = TypeVar("T")
MAX_ROWS = 500
_COUNTS = tuple((each.value.capitalize(), "num") for each in State)


def namespaces_page(frame: Frame, workloads: Sequence[Workload], choices: Choices) -> str:
    """Return the page with the states of the workloads of each namespace."""
    groups = _grouped(workloads, lambda each: each.namespace)
    rows = [
        h(
            "tr",
            h(
                "th",
                link(name, frame.query.changed(namespace=name), WORKLOADS),
                scope="row",
                class_="name-cell",
            ),
            *_counts(members, frame.query.changed(namespace=name), name),
        )
        for name, members in _most_urgent_first(groups)
    ]
    headings = (("Namespace", ""), ("Distribution", ""), *_COUNTS, ("Total", "num"))
    return page(
        frame,
        "Namespaces",
        "How many volumes of pods and Secrets of SecretSyncs are in which state.",
        filters(frame, choices),
        _section("Namespaces", headings, rows, "No workload matches the filters."),
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
    groups = _grouped(workloads, lambda each: (each.namespace, each.class_name))
    known = {(each.namespace, each.name): each for each in classes if _selects(query, each)}
    groups |= {key: [] for key in known if key not in groups}
    ordered = sorted(
        groups, key=lambda key: (not _is_invalid(known.get(key)), _rank(groups[key]), key)
    )
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
        _section("SecretProviderClasses", headings, rows, "No SecretProviderClass matches."),
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
    query: Query, key: tuple[str, str], spc: ClassFacts | None, members: Sequence[Workload]
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
    return h("tr", heading, h("td", _source(query, spc)), *_counts(members, own, name))


def _source(query: Query, spc: ClassFacts | None) -> Markup:
    if spc is None:
        return tinted("does not exist", State.FAILING)
    if spc.problem:
        return h("div", tinted("invalid", State.FAILING), long_text(spc.problem))
    vaults = [link(each, query.changed(vault=each), VAULTS) for each in spc.vaults]
    return h("div", spc.provider, item_list(vaults) if vaults else None)


def _section(
    label: str, headings: Iterable[tuple[str, str]], rows: Sequence[Markup], empty: str
) -> Markup:
    if not rows:
        return h(
            "section", h("div", h("p", empty, class_="empty"), class_="card"), class_="section"
        )
    more = len(rows) - MAX_ROWS
    after = (
        h("p", f"{more:,} more are not shown. Use the filters.", class_="empty")
        if more > 0
        else None
    )
    return h("section", table(label, headings, rows[:MAX_ROWS], after=after), class_="section")


def _grouped(
    workloads: Iterable[Workload], key: Callable[[Workload], T]
) -> dict[T, list[Workload]]:
    found: dict[T, list[Workload]] = defaultdict(list)
    for workload in workloads:
        found[key(workload)].append(workload)
    return dict(found)


def _most_urgent_first(
    groups: Mapping[str, list[Workload]],
) -> list[tuple[str, list[Workload]]]:
    return sorted(groups.items(), key=lambda pair: (_rank(pair[1]), pair[0]))


def _rank(members: Iterable[Workload]) -> tuple[int, ...]:
    """Return what sorts groups: those with the most failing workloads first, then stale, ..."""
    counts = count_states(members)
    return tuple(-counts[state] for state in State if state is not State.HEALTHY)


def _counts(members: Sequence[Workload], query: Query, name: str) -> list[Markup]:
    counts = count_states(members)
    cells = [h("td", distribution(counts) if members else NOTHING, class_="dist-cell")]
    for state in State:
        target = query.changed(state=state)
        meaning = f"{state} in {name}"
        cells.append(
            h("td", count_link(counts[state], meaning, target, WORKLOADS, state), class_="num")
        )
    return [*cells, h("td", f"{len(members):,}", class_="num")]
