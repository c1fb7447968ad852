"""keyferry.economy.queue: first mounts before refreshes, and an end to every wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.contract import Purpose
from keyferry.economy.queue import REFRESH_WAITS, TurnQueue

F, R = Purpose.FIRST, Purpose.REFRESH


def served(queue: TurnQueue[str]) -> list[str]:
    """All who wait, in their order."""
    order = []
    while (ticket := queue.first()) is not None:
        ticket.gone = True
        order.append(ticket.who)
    return order


def test_first_mounts_go_before_refreshes() -> None:
    """Among themselves in the order in which they came."""
    queue: TurnQueue[str] = TurnQueue()
    for who, came, purpose in (("r1", 0, R), ("r2", 1, R), ("f1", 2, F), ("f2", 3, F)):
        queue.join(who, came=came, purpose=purpose)
    assert 4 == len(queue)
    assert ["f1", "f2", "r1", "r2"] == served(queue)
    assert 0 == len(queue)


def test_a_refresh_that_has_waited_long_goes_first() -> None:
    """Before pods that come then."""
    queue: TurnQueue[str] = TurnQueue()
    queue.join("r", came=0.0, purpose=R)
    queue.join("f", came=REFRESH_WAITS + 1, purpose=F)
    assert ["r", "f"] == served(queue)


def test_a_refresh_that_a_pod_waits_for_is_hurried() -> None:
    """From where it came."""
    queue: TurnQueue[str] = TurnQueue()
    ticket = queue.join("r", came=0.0, purpose=R)
    queue.join("f", came=1.0, purpose=F)
    queue.hurry(ticket)
    assert ["r", "f"] == served(queue)


def test_who_has_gone_is_passed_over() -> None:
    """And not counted."""
    queue: TurnQueue[str] = TurnQueue()
    queue.join("a", came=0.0, purpose=F).gone = True
    queue.join("b", came=1.0, purpose=F)
    assert (1, ["b"]) == (len(queue), [ticket.who for ticket in queue])
    assert ["b"] == served(queue)


Step = tuple[int, Purpose, bool]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([F, R]), st.booleans()), max_size=60)
)
def test_nobody_is_overtaken_for_longer_than_a_refresh_stands_back(steps: list[Step]) -> None:
    """Whatever joins and is hurried: who is served has come no later than that after the rest."""
    queue: TurnQueue[int] = TurnQueue()
    tickets = [
        queue.join(number, came=came, purpose=purpose)
        for number, (came, purpose, _) in enumerate(steps)
    ]
    for ticket, (_, _, hurried) in zip(tickets, steps, strict=True):
        if hurried:
            queue.hurry(ticket)
    while (first := queue.first()) is not None:
        for other in queue:
            assert first.rank <= other.rank
            assert first.came <= other.came + REFRESH_WAITS
            if first.purpose is other.purpose:
                assert first.came <= other.came
        first.gone = True
