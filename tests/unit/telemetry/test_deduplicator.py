"""The deduplicator: each key at most once per interval."""

from __future__ import annotations

from keyferry.telemetry.deduplicator import UNTIL_FORGOTTEN, Deduplicator


def test_each_key_is_due_again_after_the_interval() -> None:
    deduplicator = Deduplicator(interval=60.0)
    assert [True, False] == [deduplicator.should_notify("a", 0.0) for _ in range(2)]
    assert [False, True] == [deduplicator.should_notify(key, 59.0) for key in "ab"]
    assert [True, False] == [deduplicator.should_notify(key, 60.0) for key in "ab"]


def test_expired_keys_use_no_memory() -> None:
    deduplicator = Deduplicator(interval=1.0)
    assert all(deduplicator.should_notify(number, float(number)) for number in range(1000))
    assert 1 == len(deduplicator)


def test_a_forgotten_key_is_due_at_once() -> None:
    deduplicator = Deduplicator(UNTIL_FORGOTTEN)
    assert [True, True] == [deduplicator.should_notify(key, 0.0) for key in "ab"]
    assert not deduplicator.should_notify("a", 1e9)
    deduplicator.forget("a")
    assert [True, False] == [deduplicator.should_notify(key, 1e9) for key in "ab"]
    deduplicator.forget_all()
    assert [True, True] == [deduplicator.should_notify(key, 1e9) for key in "ab"]
