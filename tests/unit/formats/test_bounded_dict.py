"""The bounded dict: what is evicted, and when."""

from __future__ import annotations

from keyferry.formats.bounded_dict import BoundedDict, FairBoundedDict


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


def test_tenant_with_the_most_entries_loses_its_oldest_ones() -> None:
    entries = FairBoundedDict[str, int](10)
    for number in range(3):
        entries.put(f"shop-{number}", number, tenant="shop")
    for number in range(100):
        entries.put(f"evil-{number}", number, tenant="evil")
    assert 10 == len(entries)
    assert {f"shop-{n}" for n in range(3)} | {f"evil-{n}" for n in range(93, 100)} == set(entries)
    entries.put("other", 1, tenant="other")
    assert "evil-93" not in entries


def test_entry_of_a_tenant_that_must_stay_is_not_evicted() -> None:
    entries = FairBoundedDict[str, bool](2, is_evictable=lambda value: value)
    for key, idle in (("a", False), ("b", True), ("c", False)):
        entries.put(key, idle, tenant="evil")
    entries.put("d", True, tenant="shop")
    assert ["a", "c"] == list(entries)


def test_written_and_removed_entries_keep_no_tenants_in_memory() -> None:
    entries = FairBoundedDict[int, int](2)
    for number in range(100):
        entries.put(number, number, tenant="a")
        entries.pop(number)
    for number in range(3):
        entries.put(number, number, tenant="a")
    assert len(entries._tenants) <= 3


def test_large_dict_that_tenants_share_evicts_several_entries_at_once() -> None:
    """An eviction looks at all entries, so it must be rare."""
    entries = FairBoundedDict[int, int](640)
    for number in range(640):
        entries.put(number, number, tenant=f"tenant-{number % 2}")
    entries.put(640, 640, tenant="other")
    assert set(range(10, 641)) == set(entries)
