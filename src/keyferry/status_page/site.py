"""The pages by their paths, and the headers of their responses. [pure]"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry.status_page.markup import h
from keyferry.status_page.pages.groups import classes_page, namespaces_page
from keyferry.status_page.pages.layout import (
    CLASSES,
    ICON,
    ICON_PATH,
    NAMESPACES,
    OVERVIEW,
    VAULTS,
    WORKLOADS,
    Choices,
    Frame,
    Look,
    notice,
    page,
)
from keyferry.status_page.pages.overview import overview_page
from keyferry.status_page.pages.vault_rows import vaults_page
from keyferry.status_page.pages.workload_rows import workloads_page
from keyferry.status_page.vaults import process_states, summarize_vaults
from keyferry.status_page.workloads import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from keyferry.errors import KeyferryError
    from keyferry.status_page.facts import ProcessFacts
    from keyferry.status_page.query import Query
    from keyferry.status_page.workloads import Inventory

PATHS = (OVERVIEW, WORKLOADS, NAMESPACES, CLASSES, VAULTS)
NEEDS_CLUSTER = frozenset((OVERVIEW, WORKLOADS, NAMESPACES, CLASSES))
"""The pages that show workloads."""
NEEDS_PROCESSES = frozenset((OVERVIEW, VAULTS))
"""The pages that show metrics."""
_LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))
_HTML, _SVG, _TEXT = "text/html", "image/svg+xml", "text/plain"


def headers(style: str) -> dict[str, str]:
    """Return the headers of every response.

    No script runs, no other style sheet applies, and no other site can embed or read a page.

    Args:
        style: the style sheet.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src 'self'; form-action 'self'",
        "base-uri 'none'; frame-ancestors 'none'",
    )
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "; ".join(policy),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


class Answer(Struct, frozen=True):
    """A response.

    Attributes:
        status: of HTTP.
        body: its text.
        content_type: without the charset, which is UTF-8.
        headers: in addition to those of `headers`.
    """

    status: int
    body: str
    content_type: str = _HTML
    headers: Mapping[str, str] = field(default_factory=dict)


class Site(Struct, frozen=True):
    """Renders the pages.

    Attributes:
        look: of all pages.
    """

    look: Look

    def render(
        self, path: str, query: Query, inventory: Inventory | None, processes: ProcessFacts | None
    ) -> Answer:
        """Return a page.

        Args:
            path: one of `PATHS`.
            query: the filters.
            inventory: the workloads, if the page needs them.
            processes: the metrics, if the page needs them.
        """
        facts = tuple(each for each in (inventory and inventory.facts, processes) if each)
        notes = tuple(dict.fromkeys(note for each in facts for note in each.notes))
        read_at = min(each.read_at for each in facts)
        frame = Frame(path, query, read_at, self.look, notes)
        return Answer(200, _body(frame, inventory, processes))

    def error(self, query: Query, path: str, error: KeyferryError, now: datetime) -> Answer:
        """Return the page of a failed read."""
        frame = Frame(path, query, now, self.look)
        lines = [error.problem, error.remedy]
        content = notice(State.FAILING, *filter(None, lines))
        body = page(frame, "The cluster cannot be read", "Reload the page to try again.", content)
        return Answer(503, body)

    def not_found(self, query: Query, now: datetime) -> Answer:
        """Return the page of an address that does not exist."""
        frame = Frame("", query, now, self.look)
        back = h("p", h("a", "Go to the overview", href=query.changed().url(OVERVIEW)))
        return Answer(404, page(frame, "Page not found", "This address does not exist.", back))


def _body(frame: Frame, inventory: Inventory | None, processes: ProcessFacts | None) -> str:
    query = frame.query
    workloads = tuple(filter(query.selects, inventory.workloads)) if inventory else ()
    states = process_states(processes.processes) if processes else ()
    vaults = summarize_vaults(processes.processes) if processes else ()
    if frame.path == VAULTS:
        return vaults_page(frame, vaults, states)
    assert inventory is not None
    match frame.path:
        case "/workloads":
            return workloads_page(frame, workloads, _choices(inventory))
        case "/namespaces":
            return namespaces_page(frame, workloads, _choices(inventory))
        case "/classes":
            classes = inventory.facts.classes
            return classes_page(frame, workloads, classes, _choices(inventory))
        case _:
            return overview_page(frame, workloads, vaults, states)


def _choices(inventory: Inventory) -> Choices:
    return Choices(
        sorted({each.namespace for each in inventory.workloads}),
        sorted({each.class_name for each in inventory.workloads}),
        sorted({vault for each in inventory.facts.classes for vault in each.vaults}),
    )


def icon() -> Answer:
    """Return the logo."""
    return Answer(200, ICON, _SVG)


def refusal(method: str, host: str) -> Answer | None:
    """Return why a request is refused; None if it is served.

    The name in the header `Host` must be that of this machine. Otherwise a page of another site
    could read this one, with a name of its own that resolves to 127.0.0.1.

    Args:
        method: of HTTP.
        host: the header; "" without one.
    """
    if method not in ("GET", "HEAD"):
        text = "The page only shows: use GET.\n"
        return Answer(405, text, _TEXT, {"Allow": "GET, HEAD"})
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    if name.lower() not in _LOCAL_NAMES:
        text = "Open the page as http://127.0.0.1 or http://localhost, with its port.\n"
        return Answer(421, text, _TEXT)
    return None


__all__ = [
    "ICON_PATH",
    "NEEDS_CLUSTER",
    "NEEDS_PROCESSES",
    "PATHS",
    "Answer",
    "Look",
    "Site",
    "headers",
    "icon",
    "refusal",
]
