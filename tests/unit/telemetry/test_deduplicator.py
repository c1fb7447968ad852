"""keyferry.telemetry.deduplicator: nothing is told twice within its time."""

from __future__ import annotations

from keyferry.telemetry.deduplicator import Deduplicator
from tests.fakes.clock import ManualClock


def test_what_was_told_is_due_again_after_its_time() -> None:
    """Each thing has a time of its own."""
    clock = ManualClock()
    reminders = Deduplicator(interval=60.0, clock=clock.monotonic)
    assert [True, False] == [reminders.should_notify("a"), reminders.should_notify("a")]
    clock.now = 59.0
    assert [False, True] == [reminders.should_notify("a"), reminders.should_notify("b")]
    clock.now = 60.0
    assert [True, False] == [reminders.should_notify("a"), reminders.should_notify("b")]


def test_what_is_over_is_forgotten() -> None:
    """However much was told, memory does not grow."""
    clock = ManualClock()
    reminders = Deduplicator(interval=1.0, clock=clock.monotonic)
    for number in range(1000):
        clock.now = float(number)
        assert reminders.should_notify(number)
    assert 1 == len(reminders._notified_at)
