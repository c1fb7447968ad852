"""Each mistake of a new user ends in a message that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.mistakes.mistake import CANARY, Mistake
from tests.integration.mistakes.page import MISTAKES, PAGE, render, section, sections
from tests.integration.mistakes.world import Outcome, World, running_world


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_world() as world:
        yield world


@pytest.mark.parametrize(
    ("group", "mistake"),
    MISTAKES,
    ids=lambda value: value if isinstance(value, str) else value.title,
)
def test_message_is_that_of_the_page(world: World, group: str, mistake: Mistake) -> None:
    """The page in the documentation was read line by line; it may not change unread.

    After a change: python -m scripts.mistakes_page > docs/operations/common-mistakes.md
    """
    outcome = world.run(mistake)

    lines = outcome.output.splitlines()
    assert "Traceback" not in outcome.output
    assert CANARY not in outcome.output
    assert mistake.is_warning == (outcome.exit_code == 0)
    assert mistake.is_warning or any(line.startswith(("error: ", "Usage: ")) for line in lines)
    assert max(map(len, lines), default=0) <= 700
    written = dict(sections(PAGE.read_text()))
    assert written.get((group, mistake.title)) == section(mistake, outcome)


def test_page_lists_all_mistakes_once_and_no_other() -> None:
    titles = [(group, mistake.title) for group, mistake in MISTAKES]

    assert titles == [title for title, _ in sections(PAGE.read_text())]
    assert len(titles) == len(set(titles))
    assert len(titles) >= 140


def test_page_can_be_read_again() -> None:
    outcomes = {
        (group, mistake.title): Outcome(2, "", f"error: {group}: {mistake.title}\n")
        for group, mistake in MISTAKES
    }

    parts = dict(sections(render(outcomes)))

    for group, mistake in MISTAKES:
        key = group, mistake.title
        assert parts[key] == section(mistake, outcomes[key])
