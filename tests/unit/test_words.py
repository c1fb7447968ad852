"""Everything that a person reads uses the field's standard words."""

from __future__ import annotations

import pytest

from scripts.words import CHECKED, findings, report


def test_checked_paths_contain_no_retired_word() -> None:
    """`python -m scripts.words` lists what is left."""
    assert [] == list(report(CHECKED))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The vault is away.", "away"),
        ("The class is read anew", "anew"),
        ("Mend the file.", "Mend"),
        ("as the originals do", "the originals"),
        ("def test_what_is_gone_is_reported", "gone"),
        ("The circuit is left alone.", "left alone"),
    ],
)
def test_a_retired_word_is_found(text: str, word: str) -> None:
    """In prose and in names."""
    assert [word] == [finding.word for finding in findings(text)]


@pytest.mark.parametrize("text", ["It starts right away.", "KV stands for key-value.", "runaway"])
def test_a_standard_phrase_is_accepted(text: str) -> None:
    """Only the retired meaning is retired."""
    assert [] == list(findings(text))
