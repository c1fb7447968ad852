"""Watchdog: a process is replaced for CPU time without an answer, not for a busy machine."""

from __future__ import annotations

import pytest

from keyferry.isolation.watchdog import Observation, Verdict, WatchdogLimits, judge, parse_stat

LIMITS = WatchdogLimits(cpu=1.0, stopped=0.5, silent=10.0)
START = Observation(at=100.0, cpu=7.0, stopped=False)


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (Observation(100.1, 7.1, stopped=False), Verdict.WAIT),
        (Observation(101.0, 8.0, stopped=False), Verdict.SPINNING),
        (Observation(109.0, 7.9, stopped=False), Verdict.WAIT),
        (Observation(110.0, 7.0, stopped=False), Verdict.SILENT),
        (Observation(100.4, 7.0, stopped=True), Verdict.WAIT),
        (Observation(100.6, 7.0, stopped=True), Verdict.STOPPED),
    ],
)
def test_verdict(now: Observation, verdict: Verdict) -> None:
    assert verdict is judge(START, now, LIMITS)


@pytest.mark.parametrize(("state", "stopped"), [("R", False), ("S", False), ("T", True)])
def test_state_and_cpu_time_are_read(state: str, stopped: bool) -> None:
    """The name of a process may contain parentheses and spaces."""
    text = f"42 (a) b) {state} 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 100 1 1"
    assert Observation(3.0, 2.0, stopped) == parse_stat(text, at=3.0, clock_hz=100)


@pytest.mark.parametrize("text", ["", "42 (python) R", "42 (python) R a b c d e f g h i j k l m"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_stat(text, at=0.0, clock_hz=100)
