"""keyferry.resilience.limits.fair_queue: turns of tenants and identities, priorities, no leaks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.call_context import KEYFERRY, Caller, Purpose
from keyferry.resilience.limits.fair_queue import REFRESH_DELAY_SECONDS, FairQueue, QueueEntry

F, R = Purpose.FIRST, Purpose.REFRESH


def add(
    queue: FairQueue[str],
    item: str,
    arrived_at: float = 0.0,
    purpose: Purpose = F,
    caller: Caller = KEYFERRY,
) -> QueueEntry[str]:
    """Add an item that waits for at most 60 s."""
    return queue.enqueue(
        item,
        caller=caller,
        arrived_at=arrived_at,
        deadline=arrived_at + 60.0,
        purpose=purpose,
    )


def served(queue: FairQueue[str]) -> list[str]:
    """Remove and return all items in order."""
    order = []
    while (entry := queue.peek()) is not None:
        queue.take(entry)
        order.append(entry.item)
    return order


# --- one identity ---------------------------------------------------------------------------------


def test_first_mounts_are_served_before_refreshes() -> None:
    """Items of one priority are served in the order of their arrival."""
    queue: FairQueue[str] = FairQueue()
    for item, arrived_at, purpose in (("r1", 0, R), ("r2", 1, R), ("f1", 2, F), ("f2", 3, F)):
        add(queue, item, arrived_at, purpose)
    assert 4 == len(queue)
    assert ["f1", "f2", "r1", "r2"] == served(queue)
    assert 0 == len(queue)


def test_refresh_that_has_waited_long_is_served_before_a_new_first_mount() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "r", 0.0, R)
    add(queue, "f", REFRESH_DELAY_SECONDS + 1, F)
    assert ["r", "f"] == served(queue)


def test_promoted_refresh_is_ordered_by_its_arrival() -> None:
    queue: FairQueue[str] = FairQueue()
    refresh = add(queue, "r", 0.0, R)
    add(queue, "f", 1.0)
    queue.promote(refresh)
    assert ["r", "f"] == served(queue)


def test_removed_items_are_skipped_and_not_counted() -> None:
    queue: FairQueue[str] = FairQueue()
    first = add(queue, "a")
    add(queue, "b", 1.0)
    queue.remove(first)
    queue.remove(first)
    assert (1, ["b"]) == (len(queue), [entry.item for entry in queue])
    assert ["b"] == served(queue)


def test_overdue_item_is_the_one_with_the_earliest_deadline() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "late", 5.0)
    early = add(queue, "early", 1.0)
    assert (61.0, None) == (queue.next_deadline, queue.overdue(60.0))
    assert early is queue.overdue(61.0)
    served(queue)
    assert (float("inf"), None) == (queue.next_deadline, queue.overdue(1000.0))


# --- many tenants ---------------------------------------------------------------------------------


def test_tenants_take_turns_and_so_do_their_identities() -> None:
    """However many requests a tenant or an identity has."""
    queue: FairQueue[str] = FairQueue()
    for number in range(4):
        add(queue, f"evil-a{number}", caller=Caller("evil", "a"))
    add(queue, "evil-b", caller=Caller("evil", "b"))
    add(queue, "shop", arrived_at=9.0, purpose=R, caller=Caller("shop", "web"))
    assert ["evil-a0", "shop", "evil-b", "evil-a1", "evil-a2", "evil-a3"] == served(queue)


def test_parked_tenant_has_no_turn_until_it_is_unparked() -> None:
    queue: FairQueue[str] = FairQueue()
    for tenant in ("a", "b"):
        add(queue, tenant, caller=Caller(tenant))
    queue.park("a")
    add(queue, "a2", caller=Caller("a"))
    assert ["b"] == served(queue)
    assert (False, 2, 2) == (queue.has_turns, len(queue), queue.depth("a"))
    queue.unpark("a")
    queue.unpark("unknown")
    assert ["a", "a2"] == served(queue)


def test_removed_items_are_not_kept_in_memory() -> None:
    """Even if the queue never becomes empty."""
    queue: FairQueue[str] = FairQueue()
    add(queue, "stays")
    for number in range(1000):
        queue.remove(add(queue, "x", number))
    assert len(queue._deadlines._records) < 50


Step = tuple[int, Purpose, bool]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([F, R]), st.booleans()), max_size=60)
)
def test_no_item_is_overtaken_by_one_that_arrived_much_later(steps: list[Step]) -> None:
    """By at most the delay of refreshes, with any promotions."""
    queue: FairQueue[str] = FairQueue()
    entries = [add(queue, "x", arrived_at, purpose) for arrived_at, purpose, _ in steps]
    for entry, (_, _, is_promoted) in zip(entries, steps, strict=True):
        if is_promoted:
            queue.promote(entry)
    while (head := queue.peek()) is not None:
        for other in queue:
            assert head.rank <= other.rank
            assert head.arrived_at <= other.arrived_at + REFRESH_DELAY_SECONDS
            if head.purpose is other.purpose:
                assert head.arrived_at <= other.arrived_at
        queue.take(head)
