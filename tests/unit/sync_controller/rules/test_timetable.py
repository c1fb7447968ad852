"""Keys and when they are due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.sync_controller.rules.timetable import Timetable


def due(table: Timetable[str], now: float) -> list[str]:
    return list(table.take_due(now))


def test_keys_are_due_in_the_order_of_their_times() -> None:
    """Each once."""
    table: Timetable[str] = Timetable()
    for key, at in {"c": 3.0, "a": 1.0, "b": 2.0}.items():
        table.set(key, at)
    assert [] == due(table, 0.9)
    assert ["a", "b"] == due(table, 2.0)
    assert [] == due(table, 2.5)
    assert ["c"] == due(table, 1e9)
    assert 0 == len(table)


def test_last_time_of_a_key_counts() -> None:
    """Earlier, later, or never."""
    table: Timetable[str] = Timetable()
    for key in ("sooner", "later", "never"):
        table.set(key, 5)
    table.set("sooner", 1)
    table.set("later", 9)
    table.set("never", None)
    table.set("unknown", None)
    assert 2 == len(table)
    assert ["sooner"] == due(table, 5)
    assert ["later"] == due(table, 9)


def test_key_may_be_set_again_while_it_is_taken() -> None:
    """The reconciler does so."""
    table: Timetable[str] = Timetable()
    table.set("a", 1)
    table.set("b", 1)
    taken = []
    for key in table.take_due(1):
        taken.append(key)
        table.set(key, 10)
    assert ["a", "b"] == taken
    assert ["a", "b"] == due(table, 10)


def test_repeated_times_take_no_memory() -> None:
    """Each event of a SecretSync sets its time again, mostly to the one that it has."""
    table: Timetable[str] = Timetable()
    for _ in range(1000):
        table.set("a", None)
        table.set("a", 3600)
    for number in range(1000):
        table.set("b", 3600 + number)
    assert len(table._heap) < 100
    assert ["a"] == due(table, 3600)
    assert ["b"] == due(table, 1e9)


changes = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 5), st.booleans()), max_size=80
)


@given(changes)
def test_timetable_is_a_dict_of_times(made: list[tuple[str, int | None, bool]]) -> None:
    """However often the times change."""
    table: Timetable[str] = Timetable()
    times: dict[str, int] = {}
    for now, (key, at, takes) in enumerate(made):
        table.set(key, at)
        times.pop(key, None)
        if at is not None:
            times[key] = at
        if takes:
            moment = now % 6
            expected = {each for each, time in times.items() if time <= moment}
            assert sorted(expected) == sorted(due(table, moment))
            times = {each: time for each, time in times.items() if each not in expected}
        assert len(times) == len(table)
