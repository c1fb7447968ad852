"""The frame of each page: head, navigation, filters and footer. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.status_page.markup import Markup, h, join
from keyferry.status_page.pages.cells import link
from keyferry.status_page.query import REFRESH_SECONDS
from keyferry.status_page.workloads import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from keyferry.status_page.query import Query

OVERVIEW, WORKLOADS, NAMESPACES = "/", "/workloads", "/namespaces"
CLASSES, VAULTS = "/classes", "/vaults"
ICON_PATH = "/icon.svg"

_NAVIGATION = (
    (OVERVIEW, "Overview"),
    (WORKLOADS, "Workloads"),
    (NAMESPACES, "Namespaces"),
    (CLASSES, "SecretProviderClasses"),
    (VAULTS, "Vaults"),
)
_MAX_SUGGESTIONS = 300

_SHAPES = join(
    h("rect", width=128, height=128, rx=24, fill="#5c6bc0"),
    h(
        "g",
        h("circle", cx=42, cy=44, r=13),
        h("path", d="M55 44h40M82 44v12M95 44v9"),
        h("path", d="M22 74h84l-11 22H33z", fill="#fff"),
        h(
            "path",
            d="M16 110c8 0 8-5 16-5s8 5 16 5 8-5 16-5 8 5 16 5 8-5 16-5 8 5 16 5",
            stroke_width=5,
        ),
        fill="none",
        stroke="#fff",
        stroke_width=8,
        stroke_linecap="round",
        stroke_linejoin="round",
    ),
)
ICON = h("svg", _SHAPES, xmlns="http://www.w3.org/2000/svg", viewBox="0 0 128 128")
"""The logo as a file."""


class Look(Struct, frozen=True):
    """What all pages of a server have in common.

    Attributes:
        style: the style sheet.
        server: who serves the page, for the footer.
        version: of Keyferry.
    """

    style: str
    server: str
    version: str


class Frame(Struct, frozen=True):
    """What each page shows around its content.

    Attributes:
        path: of the page.
        query: its filters.
        read_at: when the data was read.
        look: the same on all pages.
        notes: what is missing, and why.
    """

    path: str
    query: Query
    read_at: datetime
    look: Look
    notes: tuple[str, ...] = ()


def page(frame: Frame, title: str, lead: Markup | str, *content: Markup | None) -> str:
    """Return a whole page.

    Args:
        frame: around the content.
        title: the heading.
        lead: the sentence below it.
        content: the rest.
    """
    refresh = (
        h("meta", http_equiv="refresh", content=REFRESH_SECONDS) if frame.query.refreshes else None
    )
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width,initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        refresh,
        h("title", f"{title} \N{MIDDLE DOT} Keyferry"),
        h("link", rel="icon", href=ICON_PATH, type="image/svg+xml"),
        h("style", Markup(frame.look.style)),
    )
    main = h(
        "main",
        h("h1", title),
        h("p", lead, class_="lead"),
        _notes(frame.notes),
        *content,
        id="content",
    )
    skip = h("a", "Skip to content", href="#content", class_="skip")
    body = h("body", skip, _header(frame), main, _footer(frame))
    return f"<!doctype html>\n{h('html', head, body, lang='en')}\n"


def section(title: str, hint: Markup | str, *content: Markup | None) -> Markup:
    """Return a part of a page with its own heading."""
    head = h("div", h("h2", title), h("p", hint) if hint else None, class_="section-head")
    return h("section", head, *content, class_="section")


def notice(state: State, *lines: str) -> Markup:
    """Return a message in the color of a state."""
    return h("div", *(h("p", line) for line in lines), class_=f"card notice {state.value}")


def _notes(notes: Sequence[str]) -> Markup | None:
    return notice(State.STALE, *notes) if notes else None


def _header(frame: Frame) -> Markup:
    everything = frame.query.changed()
    items = (
        h(
            "li",
            h(
                "a",
                text,
                href=everything.url(path),
                aria_current="page" if path == frame.path else None,
            ),
        )
        for path, text in _NAVIGATION
    )
    logo = h("svg", _SHAPES, viewBox="0 0 128 128", aria_hidden="true", focusable="false")
    brand = h("a", logo, h("span", "Keyferry"), href=frame.query.changed().url("/"), class_="brand")
    navigation = h("nav", h("ul", *items), aria_label="Pages")
    return h("header", h("div", brand, navigation, class_="bar-in"), class_="top")


def _footer(frame: Frame) -> Markup:
    query, path = frame.query, frame.path
    moment = frame.read_at
    read = h(
        "time",
        f"{moment.time().isoformat('seconds')} UTC",
        datetime=moment.isoformat(timespec="seconds"),
    )
    if query.refreshes:
        again = link("Stop refreshing", query.changed(page=query.page, refreshes=False), path)
    else:
        text = f"Refresh every {REFRESH_SECONDS} seconds"
        again = link(text, query.changed(page=query.page, refreshes=True), path)
    about = f"Keyferry {frame.look.version} \N{MIDDLE DOT} {frame.look.server}"
    return h(
        "footer",
        h("p", f"{about} \N{MIDDLE DOT} read at ", read),
        h("p", "Names and versions only, no values \N{MIDDLE DOT} ", again, class_="controls"),
    )


# --- filters --------------------------------------------------------------------------------------


class Choices(Struct, frozen=True):
    """What the filters suggest."""

    namespaces: Sequence[str]
    classes: Sequence[str]
    vaults: Sequence[str]


def filters(frame: Frame, choices: Choices) -> Markup:
    """Return the form with the filters; its answer is a page with them in its address."""
    query = frame.query
    states = [h("option", "All", value="")]
    states += [
        h("option", each.value.capitalize(), value=each.value, selected=each is query.state)
        for each in State
    ]
    buttons = h(
        "div",
        h("button", "Filter", type="submit"),
        link("Clear", type(query)(refreshes=query.refreshes), frame.path)
        if query.has_filter()
        else None,
        class_="buttons",
    )
    kept = (
        h("input", type="hidden", name="refresh", value=REFRESH_SECONDS)
        if query.refreshes
        else None
    )
    return h(
        "form",
        _field("Search", "q", query.text, (), "search"),
        _field("Namespace", "namespace", query.namespace, choices.namespaces),
        _field("SecretProviderClass", "class", query.class_name, choices.classes),
        _field("Vault", "vault", query.vault, choices.vaults),
        h("label", "State", h("select", *states, name="state")),
        kept,
        buttons,
        method="get",
        action=frame.path,
        role="search",
        class_="card filters",
    )


def active_filters(frame: Frame) -> Markup | None:
    """Return what a page without the form is restricted to, with a link to everything."""
    query = frame.query
    if not query.has_filter():
        return None
    parts = (
        ("namespace", query.namespace),
        ("SecretProviderClass", query.class_name),
        ("vault", query.vault),
        ("state", query.state.value if query.state else ""),
        ("search", query.text),
    )
    named = ", ".join(f"{name} {value}" for name, value in parts if value)
    everything = link("Show everything", type(query)(refreshes=query.refreshes), frame.path)
    return h("p", f"Only {named}. ", everything, class_="lead")


def _field(
    label: str, name: str, value: str, suggestions: Iterable[str], type_: str = "text"
) -> Markup:
    options = [h("option", value=each) for each in [*suggestions][:_MAX_SUGGESTIONS]]
    listed = f"{name}-names" if options else None
    entry = h(
        "input",
        type=type_,
        name=name,
        value=value,
        list=listed,
        autocomplete="off",
        spellcheck="false",
    )
    return join(h("label", label, entry), h("datalist", *options, id=listed) if options else None)
