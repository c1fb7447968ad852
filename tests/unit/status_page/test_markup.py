"""`keyferry.status_page.markup`: HTML in which every text is escaped."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from keyferry.status_page.markup import Markup, h, join


def test_element_has_attributes_and_children() -> None:
    """Names of attributes lose a final underscore, and others become hyphens."""
    element = h("a", "x", h("b", 7), None, href="/?a=1&b=2", class_="c", aria_label="d")
    assert '<a href="/?a=1&amp;b=2" class="c" aria-label="d">x<b>7</b></a>' == element


def test_element_without_content_is_closed() -> None:
    """As SVG needs it; attributes without a value, and left out."""
    assert '<input type="text" required/>' == h("input", type="text", required=True, name=None)
    assert '<rect x="0"/>' == h("rect", x=0, hidden=False)


def test_texts_and_attributes_are_escaped() -> None:
    """So names cannot add elements or attributes."""
    hostile = "<script>alert(1)</script>\"'&"
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;"
    assert f'<p title="{escaped}">{escaped}</p>' == h("p", hostile, title=hostile)
    assert "<i></i>" == join(Markup("<i></i>"))


def test_invisible_characters_are_replaced() -> None:
    """A message must not turn the direction of the text around it, nor hide a part."""
    assert "a\N{REPLACEMENT CHARACTER}b" == join("a\N{RIGHT-TO-LEFT OVERRIDE}b")
    assert "\N{REPLACEMENT CHARACTER}" == join("\x00")
    assert "ü\nß" == join("ü\nß")


class _Reader(HTMLParser):
    """Collects the elements, attributes and text of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[object] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.found.append(data)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1))
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    """As text and as the value of an attribute."""
    reader = _Reader()
    reader.feed(h("p", text, title=text))
    reader.close()
    tag, *parts = reader.found
    assert ("p", [("title", text)]) == tag
    assert text == "".join(map(str, parts))
