"""The page about broken set-ups has every set-up of the catalogue, and no other."""

from __future__ import annotations

from tests.e2e.cluster.broken.page import PAGE, Said, render, section, sections
from tests.e2e.cluster.broken.run import ROWS
from tests.e2e.cluster.broken.setup import CANARIES, Category


def test_page_has_all_set_ups_once_and_no_other() -> None:
    """In the order of the categories."""
    titles = [row.title for category in Category for row in ROWS if row.category is category]
    text = PAGE.read_text()
    assert titles == [title for title, _ in sections(text)]
    assert len(titles) == len(set(titles)) == len({row.name for row in ROWS})
    assert not [canary for canary in CANARIES if canary in text]


def test_every_category_has_set_ups() -> None:
    """At least 40 set-ups in all."""
    assert set(Category) == {row.category for row in ROWS}
    assert len(ROWS) >= 40


def test_every_set_up_has_an_alert_or_says_why_not() -> None:
    """A reader looks for the alert."""
    assert not [row.name for row in ROWS if not row.alerts and not row.no_alert]


def test_page_can_be_read_again() -> None:
    """Also messages with the characters of Markdown."""
    said = {
        row.name: Said((("FailedMount", f"a|b*{row.name}"),), (("class", "x"),), "tls", "p", "", ())
        for row in ROWS
    }
    parts = dict(sections(render(ROWS, said)))
    for row in ROWS:
        assert parts[row.title] == section(row, said[row.name])


def test_names_of_set_ups_occur_in_no_message() -> None:
    """A name is also that of the namespace, which the page calls shop wherever it occurs."""
    assert not [row.name for row in ROWS if "-" not in row.name]
