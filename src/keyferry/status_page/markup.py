"""Builds HTML. Everything is escaped, because names and messages come from others. [pure]

h("a", "shop/web", href="/workloads?q=web", class_="name")
"""

from __future__ import annotations

import html
import unicodedata

_EMPTY = frozenset(("input", "link", "meta", "rect", "circle", "path"))
"""Elements without content."""
_INVISIBLE = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))
"""Unicode categories that change how the text around them looks, such as bidirectional controls."""
_KEPT = frozenset("\n\t")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = Markup | str | int | None
"""What an element may contain; a text is escaped, and None is left out."""


def h(tag: str, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """Return an element.

    Args:
        tag: its name.
        children: its content.
        attributes: a final `_` is dropped, and others become `-`; True for one without a value,
            None and False for none.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _EMPTY:
        return Markup(f"<{tag}{written}/>")  # as XML has it, which SVG needs
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Return children after each other."""
    return Markup("".join(map(_escape, children)))


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escape_text(str(value))}"'


def _escape(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else _escape_text(str(child))


def _escape_text(text: str) -> str:
    if text.isascii() and text.isprintable():
        return html.escape(text)
    return html.escape("".join(map(_visible, text)))


def _visible(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _INVISIBLE:
        return character
    return "\N{REPLACEMENT CHARACTER}"
