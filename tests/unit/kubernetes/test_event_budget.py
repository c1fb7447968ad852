"""keyferry.kubernetes.api.event_budget: how many event objects a node creates."""

from __future__ import annotations

from keyferry.kubernetes.api.event_budget import (
    NAMESPACE_BURST,
    NODE_BURST,
    NODE_PER_MINUTE,
    EventBudget,
)


def taken(budget: EventBudget, namespace: str, now: float, *, is_warning: bool = True) -> int:
    """Return how many of very many events may be created."""
    return sum(budget.take(namespace, is_warning=is_warning, now=now) for _ in range(1000))


def test_node_creates_a_bounded_number_of_events() -> None:
    """At once, and in each later minute."""
    budget = EventBudget(0.0)
    assert NODE_BURST == sum(taken(budget, f"ns-{number}", 0.0) for number in range(10))
    assert NODE_PER_MINUTE == taken(budget, "other", 60.0)


def test_namespace_cannot_use_the_events_of_others() -> None:
    budget = EventBudget(0.0)
    assert NAMESPACE_BURST == taken(budget, "evil", 0.0)
    assert budget.take("shop", is_warning=True, now=0.0)


def test_notices_leave_room_for_warnings() -> None:
    budget = EventBudget(0.0)
    assert 0 < taken(budget, "shop", 0.0, is_warning=False) < NAMESPACE_BURST
    assert budget.take("shop", is_warning=True, now=0.0)
