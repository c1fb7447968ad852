"""keyferry.formats.go_values: what Go takes as a duration, and what it does not."""

from __future__ import annotations

import pytest

from keyferry.formats.go_values import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0), ("+0", 0.0), ("0s", 0.0), ("30s", 30.0), ("2m", 120.0), ("1h30m", 5400.0),
        ("1.5h", 5400.0), (".5s", 0.5), ("1.s", 1.0), ("100ms", 0.1), ("1m0.5s", 60.5),
        ("5us", 5e-6), ("5µs", 5e-6), ("5μs", 5e-6), ("7ns", 7e-9), ("-2m", -120.0), ("+1s", 1.0),
    ],
)  # fmt: skip
def test_durations_are_those_of_go(text: str, seconds: float) -> None:
    """Numbers with units, in any sequence."""
    assert pytest.approx(seconds) == parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "s", "1", "1d", "1 s", "1s ", "1h-1m", ".s", "1e3s", "１s", "inf"]
)
def test_what_go_does_not_take_as_a_duration_is_refused(text: str) -> None:
    """Among them a number without unit, which could be anything."""
    with pytest.raises(ValueError, match="write a duration"):
        parse_duration(text)
