"""The first page: how many workloads are in which state, and what needs attention. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.status_page.markup import Markup, h
from keyferry.status_page.pages.cells import distribution, link
from keyferry.status_page.pages.layout import (
    VAULTS,
    WORKLOADS,
    active_filters,
    page,
    section,
)
from keyferry.status_page.pages.vault_rows import vault_table
from keyferry.status_page.pages.workload_rows import workload_table
from keyferry.status_page.workloads import State, count_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.status_page.pages.layout import Frame
    from keyferry.status_page.vaults import ProcessState, VaultSummary
    from keyferry.status_page.workloads import Workload

_URGENT_ROWS = 8
_VAULT_ROWS = 6
_MEANINGS = {
    State.HEALTHY: "have what their SecretProviderClass names",
    State.STALE: "have an older version than another copy",
    State.FAILING: "keep what they had: the last refresh failed",
    State.EXPIRING: "have an object that expires within 30 days",
    State.PENDING: "wait for their first result",
}
_ORDER = (State.HEALTHY, State.STALE, State.FAILING, State.EXPIRING, State.PENDING)


def overview_page(
    frame: Frame,
    workloads: Sequence[Workload],
    vaults: Sequence[VaultSummary],
    processes: Sequence[ProcessState],
) -> str:
    """Return the page.

    Args:
        frame: of the page.
        workloads: those that the filters select, the most urgent ones first.
        vaults: all of them, those that need attention first.
        processes: all of them.
    """
    counts = count_states(workloads)
    pods = sum(each.kind == "Pod" for each in workloads)
    lead = f"{_number(pods, 'volume')} of pods and {_number(len(workloads) - pods, 'SecretSync')}"
    if namespaces := len({each.namespace for each in workloads}):
        lead += f" in {_number(namespaces, 'namespace')}."
    tiles = [
        _tile(frame, state, counts[state])
        for state in _ORDER
        if counts[state] or state is not State.PENDING
    ]
    return page(
        frame,
        "Overview",
        lead,
        active_filters(frame),
        _silent(frame, processes),
        h("ul", *tiles, class_="tiles"),
        h("div", distribution(counts), class_="wide-dist") if workloads else None,
        _urgent(frame, workloads),
        _vaults(frame, vaults),
    )


def _tile(frame: Frame, state: State, count: int) -> Markup:
    name = h("span", state.value.capitalize(), class_="name")
    number = h("span", f"{count:,}", class_="count")
    what = h("span", _MEANINGS[state], class_="what")
    empty = "" if count else " zero"
    target = frame.query.changed(state=state).url(WORKLOADS)
    return h(
        "li", h("a", name, number, what, href=target, class_=f"card tile {state.value}{empty}")
    )


def _silent(frame: Frame, processes: Sequence[ProcessState]) -> Markup | None:
    """Return a notice about processes that do not respond."""
    silent = [each.process for each in processes if each.process.problem]
    if not silent:
        return None
    names = ", ".join(each.node or each.pod for each in silent[:5])
    more = f" and {len(silent) - 5:,} more" if len(silent) > 5 else ""
    who = "1 process does" if len(silent) == 1 else f"{len(silent):,} processes do"
    text = f"{who} not respond: {names}{more}. "
    target = link("Show processes", frame.query.changed(vault=""), VAULTS)
    return h("div", h("p", text, target), class_="card notice failing")


def _urgent(frame: Frame, workloads: Sequence[Workload]) -> Markup:
    urgent = [each for each in workloads if each.state is not State.HEALTHY]
    title = "Needs attention"
    if not urgent:
        text = "Every workload is healthy." if workloads else "There are no workloads yet."
        return section(title, "", h("div", h("p", text, class_="empty"), class_="card"))
    everything = link(f"Show all {len(workloads):,} workloads", frame.query.changed(), WORKLOADS)
    rows = urgent[:_URGENT_ROWS]
    shown = workload_table(rows, frame.query, frame.read_at, label="Workloads that need attention")
    return section(title, everything, shown)


def _vaults(frame: Frame, vaults: Sequence[VaultSummary]) -> Markup | None:
    if not vaults:
        return None
    text = f"Show all {len(vaults):,}" if len(vaults) > _VAULT_ROWS else "Show processes"
    everything = link(text, frame.query.changed(), VAULTS)
    return section("Vaults", everything, vault_table(vaults[:_VAULT_ROWS], frame.query))


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
