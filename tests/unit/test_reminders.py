"""keyferry.reminders: nothing is told twice within its time."""

from __future__ import annotations

from keyferry.reminders import Reminders
from tests.fakes.clock import VirtualClock


def test_what_was_told_is_due_again_after_its_time() -> None:
    """Each thing has a time of its own."""
    clock = VirtualClock()
    reminders = Reminders(every=60.0, clock=clock.monotonic)
    assert [True, False] == [reminders.due("a"), reminders.due("a")]
    clock.now = 59.0
    assert [False, True] == [reminders.due("a"), reminders.due("b")]
    clock.now = 60.0
    assert [True, False] == [reminders.due("a"), reminders.due("b")]


def test_what_is_over_is_forgotten() -> None:
    """However much was told, memory does not grow."""
    clock = VirtualClock()
    reminders = Reminders(every=1.0, clock=clock.monotonic)
    for number in range(1000):
        clock.now = float(number)
        assert reminders.due(number)
    assert 1 == len(reminders._told)
