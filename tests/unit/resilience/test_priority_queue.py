"""keyferry.resilience.priority_queue: first mounts before refreshes, without starvation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.call_context import Purpose
from keyferry.resilience.priority_queue import REFRESH_DELAY_SECONDS, PriorityQueue

F, R = Purpose.FIRST, Purpose.REFRESH


def served(queue: PriorityQueue[str]) -> list[str]:
    """Remove and return all items in order."""
    order = []
    while (entry := queue.peek()) is not None:
        entry.done = True
        order.append(entry.item)
    return order


def test_first_mounts_are_served_before_refreshes() -> None:
    """Items of one priority are served in the order of their arrival."""
    queue: PriorityQueue[str] = PriorityQueue()
    for item, arrived_at, purpose in (("r1", 0, R), ("r2", 1, R), ("f1", 2, F), ("f2", 3, F)):
        queue.enqueue(item, arrived_at=arrived_at, purpose=purpose)
    assert 4 == len(queue)
    assert ["f1", "f2", "r1", "r2"] == served(queue)
    assert 0 == len(queue)


def test_refresh_that_has_waited_long_is_served_before_a_new_first_mount() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("r", arrived_at=0.0, purpose=R)
    queue.enqueue("f", arrived_at=REFRESH_DELAY_SECONDS + 1, purpose=F)
    assert ["r", "f"] == served(queue)


def test_promoted_refresh_is_ordered_by_its_arrival() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    refresh = queue.enqueue("r", arrived_at=0.0, purpose=R)
    queue.enqueue("f", arrived_at=1.0, purpose=F)
    queue.promote(refresh)
    assert ["r", "f"] == served(queue)


def test_done_entries_are_skipped_and_not_counted() -> None:
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("a", arrived_at=0.0, purpose=F).done = True
    queue.enqueue("b", arrived_at=1.0, purpose=F)
    assert (1, ["b"]) == (len(queue), [entry.item for entry in queue])
    assert ["b"] == served(queue)


Step = tuple[int, Purpose, bool]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([F, R]), st.booleans()), max_size=60)
)
def test_no_item_is_overtaken_by_one_that_arrived_much_later(steps: list[Step]) -> None:
    """By at most the delay of refreshes, with any promotions."""
    queue: PriorityQueue[int] = PriorityQueue()
    entries = [
        queue.enqueue(number, arrived_at=arrived_at, purpose=purpose)
        for number, (arrived_at, purpose, _) in enumerate(steps)
    ]
    for entry, (_, _, is_promoted) in zip(entries, steps, strict=True):
        if is_promoted:
            queue.promote(entry)
    while (head := queue.peek()) is not None:
        for other in queue:
            assert head.rank <= other.rank
            assert head.arrived_at <= other.arrived_at + REFRESH_DELAY_SECONDS
            if head.purpose is other.purpose:
                assert head.arrived_at <= other.arrived_at
        head.done = True
