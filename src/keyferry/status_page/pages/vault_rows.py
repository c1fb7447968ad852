"""The vaults, and the processes that call them. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.inventory.ages import format_age
from keyferry.status_page.markup import Markup, h, join
from keyferry.status_page.pages.cells import NOTHING, link, long_text, table, tinted
from keyferry.status_page.pages.layout import VAULTS, WORKLOADS, page, section
from keyferry.status_page.vaults import ProcessState, VaultSummary, VaultUse
from keyferry.status_page.workloads import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from keyferry.status_page.pages.layout import Frame
    from keyferry.status_page.query import Query

MAX_ROWS = 500
_VAULT_HEADINGS = (
    ("Vault or token endpoint", ""),
    ("Circuit breaker", ""),
    ("Throttling", ""),
    ("Requests left", "num"),
    ("Queued", "num"),
    ("Cache hits", "num"),
    ("Requests", "num"),
    ("Failed", "num"),
)
_PROCESS_HEADINGS = (
    ("Process", ""),
    ("Node", ""),
    ("Metrics", ""),
    ("Oldest content", "num"),
    ("Cache", "num"),
    ("Expiring objects", "num"),
)


def vaults_page(
    frame: Frame, vaults: Sequence[VaultSummary], processes: Sequence[ProcessState]
) -> str:
    """Return the page with the vaults and the processes.

    Args:
        frame: of the page.
        vaults: all of them.
        processes: all of them.
    """
    wanted = frame.query.vault
    shown = [each for each in vaults if wanted in ("", each.vault)]
    return page(
        frame,
        "Vaults",
        "What drivers and the SecretSync controller know of the vaults that they call.",
        _vaults(shown, frame.query),
        _uses(shown[0], frame) if wanted and shown else None,
        _processes(processes) if not wanted else None,
    )


def _vaults(vaults: Sequence[VaultSummary], query: Query) -> Markup:
    if not vaults:
        text = (
            f"No process has called {query.vault} since it started."
            if query.vault
            else "No process has called a vault since it started."
        )
        return h("section", h("div", h("p", text, class_="empty"), class_="card"), class_="section")
    everything = link("Show all vaults", query.changed(vault=""), VAULTS) if query.vault else ""
    hint = everything or "Counted since the start of each process."
    return section("State", hint, vault_table(vaults[:MAX_ROWS], query))


def vault_table(vaults: Iterable[VaultSummary], query: Query) -> Markup:
    """Return a table of vaults."""
    return table("Vaults", _VAULT_HEADINGS, (_vault_row(each, query) for each in vaults))


def _vault_row(vault: VaultSummary, query: Query) -> Markup:
    own = query.changed(vault=vault.vault)
    workloads = link("workloads", own, WORKLOADS, aria_label=f"workloads of {vault.vault}")
    unverified = tinted("TLS not verified", State.STALE) if vault.is_unverified else None
    name = h(
        "th",
        link(vault.vault, own, VAULTS),
        h("span", workloads, " ", unverified, class_="where"),
        scope="row",
        class_="name-cell",
    )
    return h(
        "tr",
        name,
        h("td", _circuit(vault)),
        h("td", _throttling(vault.backoff, vault.throttled)),
        h("td", _number(vault.tokens), class_="num"),
        h("td", f"{vault.queue:,}", class_="num"),
        h("td", _share(vault.hit_rate), class_="num"),
        h("td", f"{vault.requests:,}", class_="num"),
        h("td", f"{vault.failed:,}", class_="num"),
    )


def _circuit(vault: VaultSummary) -> Markup:
    total = len(vault.uses)
    if vault.circuits_open:
        return tinted(f"open in {vault.circuits_open} of {total}", State.FAILING)
    if vault.tenants_blocked:
        return tinted(f"open for {_plural(vault.tenants_blocked, 'namespace')}", State.STALE)
    return tinted("closed", State.HEALTHY)


def _throttling(backoff: float, throttled: int) -> Markup:
    text = f"{throttled:,} throttled" if throttled else "none"
    if backoff > 0:
        return join(tinted(f"waits {format_age(backoff)}", State.STALE), " ", text)
    return h("span", text, class_=None if throttled else "none")


def _uses(vault: VaultSummary, frame: Frame) -> Markup:
    headings = (("Process", ""), ("Node", ""), *_VAULT_HEADINGS[1:])
    rows = [_use_row(each) for each in vault.uses[:MAX_ROWS]]
    return section("By process", "", table("By process", headings, rows))


def _use_row(use: VaultUse) -> Markup:
    summary = VaultSummary(use.vault, (use,))
    circuit = tinted("open", State.FAILING) if use.circuit_open else _circuit(summary)
    return h(
        "tr",
        _process_name(use.process.component, use.process.pod),
        h("td", use.process.node or NOTHING),
        h("td", circuit),
        h("td", _throttling(use.backoff, use.throttled)),
        h("td", _number(use.tokens), class_="num"),
        h("td", f"{use.queue:,}", class_="num"),
        h("td", _share(summary.hit_rate), class_="num"),
        h("td", f"{use.requests:,}", class_="num"),
        h("td", f"{use.failed:,}", class_="num"),
    )


def _processes(processes: Sequence[ProcessState]) -> Markup:
    if not processes:
        text = "No driver and no SecretSync controller was found."
        return section("Processes", "", h("div", h("p", text, class_="empty"), class_="card"))
    rows = [_process_row(each) for each in processes[:MAX_ROWS]]
    silent = sum(bool(each.process.problem) for each in processes)
    hint = f"{silent:,} of {len(processes):,} do not respond." if silent else "All respond."
    return section("Processes", hint, table("Processes", _PROCESS_HEADINGS, rows))


def _process_row(state: ProcessState) -> Markup:
    process = state.process
    if process.problem:
        answer = join(tinted("no answer", State.FAILING), long_text(process.problem))
    else:
        answer = tinted("leader" if state.leads else "responds", State.HEALTHY)
    oldest = NOTHING if state.oldest_content is None else Markup(format_age(state.oldest_content))
    cache = NOTHING if state.cache_bytes is None else Markup(f"{state.cache_bytes / 1024:,.0f} KiB")
    parts = [
        tinted(f"{count:,} {word}", tone)
        for count, word, tone in (
            (state.expired, "expired", State.FAILING),
            (state.expiring, "expiring", State.EXPIRING),
        )
        if count
    ]
    return h(
        "tr",
        _process_name(process.component, process.pod),
        h("td", process.node or NOTHING),
        h("td", answer),
        h("td", oldest, class_="num"),
        h("td", cache, class_="num"),
        h("td", *(parts or [NOTHING]), class_="num"),
    )


def _process_name(component: str, pod: str) -> Markup:
    kind = h("span", component, class_="where")
    return h("th", pod, kind, scope="row", class_="name-cell")


def _number(value: float | None) -> Markup:
    return NOTHING if value is None else Markup(f"{value:,.0f}")


def _share(value: float | None) -> Markup:
    return NOTHING if value is None else Markup(f"{value:.0%}")


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
