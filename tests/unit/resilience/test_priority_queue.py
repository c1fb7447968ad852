"""keyferry.resilience.priority_queue: first mounts before refreshes, and an end to every wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.call_context import Purpose
from keyferry.resilience.priority_queue import REFRESH_DELAY_SECONDS, PriorityQueue

F, R = Purpose.FIRST, Purpose.REFRESH


def served(queue: PriorityQueue[str]) -> list[str]:
    """All who wait, in their order."""
    order = []
    while (ticket := queue.peek()) is not None:
        ticket.done = True
        order.append(ticket.item)
    return order


def test_first_mounts_go_before_refreshes() -> None:
    """Among themselves in the order in which they came."""
    queue: PriorityQueue[str] = PriorityQueue()
    for who, came, purpose in (("r1", 0, R), ("r2", 1, R), ("f1", 2, F), ("f2", 3, F)):
        queue.enqueue(who, arrived_at=came, purpose=purpose)
    assert 4 == len(queue)
    assert ["f1", "f2", "r1", "r2"] == served(queue)
    assert 0 == len(queue)


def test_a_refresh_that_has_waited_long_goes_first() -> None:
    """Before pods that come then."""
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("r", arrived_at=0.0, purpose=R)
    queue.enqueue("f", arrived_at=REFRESH_DELAY_SECONDS + 1, purpose=F)
    assert ["r", "f"] == served(queue)


def test_a_refresh_that_a_pod_waits_for_is_hurried() -> None:
    """From where it came."""
    queue: PriorityQueue[str] = PriorityQueue()
    ticket = queue.enqueue("r", arrived_at=0.0, purpose=R)
    queue.enqueue("f", arrived_at=1.0, purpose=F)
    queue.promote(ticket)
    assert ["r", "f"] == served(queue)


def test_who_has_gone_is_passed_over() -> None:
    """And not counted."""
    queue: PriorityQueue[str] = PriorityQueue()
    queue.enqueue("a", arrived_at=0.0, purpose=F).done = True
    queue.enqueue("b", arrived_at=1.0, purpose=F)
    assert (1, ["b"]) == (len(queue), [ticket.item for ticket in queue])
    assert ["b"] == served(queue)


Step = tuple[int, Purpose, bool]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([F, R]), st.booleans()), max_size=60)
)
def test_nobody_is_overtaken_for_longer_than_a_refresh_stands_back(steps: list[Step]) -> None:
    """Whatever joins and is hurried: who is served has come no later than that after the rest."""
    queue: PriorityQueue[int] = PriorityQueue()
    tickets = [
        queue.enqueue(number, arrived_at=came, purpose=purpose)
        for number, (came, purpose, _) in enumerate(steps)
    ]
    for ticket, (_, _, hurried) in zip(tickets, steps, strict=True):
        if hurried:
            queue.promote(ticket)
    while (first := queue.peek()) is not None:
        for other in queue:
            assert first.rank <= other.rank
            assert first.arrived_at <= other.arrived_at + REFRESH_DELAY_SECONDS
            if first.purpose is other.purpose:
                assert first.arrived_at <= other.arrived_at
        first.done = True
