"""The bounded dict: what is evicted, and when."""

from __future__ import annotations

from keyferry.formats.bounded_dict import BoundedDict


def test_the_least_recently_used_entry_is_evicted() -> None:
    entries = BoundedDict[str, int](2)
    entries["a"], entries["b"] = 1, 2
    assert 1 == entries.touch("a")
    entries["c"] = 3
    assert {"a": 1, "c": 3} == dict(entries)
    assert entries.touch("b") is None


def test_writing_an_entry_again_makes_it_the_newest() -> None:
    entries = BoundedDict[str, int](2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        entries[key] = value
    assert [("a", 3), ("c", 4)] == list(entries.items())


def test_entries_that_must_stay_may_exceed_the_limit() -> None:
    entries = BoundedDict[str, bool](1, is_evictable=lambda value: value)
    entries["busy"] = False
    entries["busy too"] = False
    entries["idle"] = True
    assert ["busy", "busy too"] == list(entries)


def test_a_limit_of_zero_keeps_nothing() -> None:
    entries = BoundedDict[str, int](0)
    entries["a"] = 1
    assert not entries
