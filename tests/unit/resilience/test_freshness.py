"""keyferry.resilience.freshness: refresh slots, and the rules for cached content."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.cache_key import CacheKey, IdentityHasher, IdentityKey
from keyferry.resilience.call_context import Purpose
from keyferry.resilience.freshness import (
    FreshnessPolicy,
    Wanted,
    is_refresh_due,
    next_slot,
    phase_of,
    refresh_slots,
    slot_passed,
)

INTERVAL = 120.0
times = st.floats(0.0, 1e7)
phases = st.floats(0.0, 1.0, exclude_max=True)

# --- refresh slots --------------------------------------------------------------------------------


@given(since=times, phase=phases)
def test_every_interval_has_a_slot(since: float, phase: float) -> None:
    assert slot_passed(since, since + INTERVAL + 1e-6, interval=INTERVAL, phase=phase)


@given(since=times, phase=phases)
def test_next_slot_is_when_a_slot_passes(since: float, phase: float) -> None:
    """But for the precision of numbers."""
    following = next_slot(since, interval=INTERVAL, phase=phase)
    assert not slot_passed(since, following - 1e-6, interval=INTERVAL, phase=phase)
    assert slot_passed(since, following + 1e-6, interval=INTERVAL, phase=phase)
    assert since == next_slot(since, interval=0.0, phase=phase)


@given(since=times, phase=phases, after=st.lists(st.floats(0.0, INTERVAL - 1e-6), max_size=9))
def test_no_interval_has_two_slots(since: float, phase: float, after: list[float]) -> None:
    previous, slots = since, 0
    for now in sorted(since + seconds for seconds in after):
        slots += slot_passed(previous, now, interval=INTERVAL, phase=phase)
        previous = now
    assert slots <= 1


def test_phase_is_the_position_of_the_slot_in_the_interval() -> None:
    assert not slot_passed(0.0, 29.9, interval=INTERVAL, phase=0.25)
    assert slot_passed(0.0, 30.0, interval=INTERVAL, phase=0.25)
    assert not slot_passed(30.0, 149.9, interval=INTERVAL, phase=0.25)
    assert slot_passed(30.0, 150.0, interval=INTERVAL, phase=0.25)


def test_interval_of_zero_always_has_a_slot() -> None:
    assert slot_passed(5.0, 5.0, interval=0.0, phase=0.5)


def is_even(tenths: list[int]) -> bool:
    """Return whether 1000 samples are spread evenly: each tenth within 5 standard deviations."""
    return sum(tenths) == 1000 and 50 < min(tenths) and max(tenths) < 150


def test_phases_are_spread_evenly_and_reproducible() -> None:
    """Over the volumes of one node, and over the nodes for one volume."""
    for names in ([("node", f"{n}") for n in range(1000)], [(f"{n}", "pod") for n in range(1000)]):
        sample = [phase_of(*name) for name in names]
        assert sample == [phase_of(*name) for name in names]
        assert is_even([sum(n / 10 <= phase < (n + 1) / 10 for phase in sample) for n in range(10)])


def test_phase_depends_on_the_boundaries_between_names() -> None:
    assert phase_of("a", "bc") != phase_of("ab", "c")
    assert phase_of("a\0", "b") != phase_of("a", "\0b")


def slots_in_each_tenth(identities: Iterable[IdentityKey]) -> list[int]:
    """Return how many identities have their slot in each tenth of the interval."""
    volumes = [
        refresh_slots({CacheKey("contoso", identity, ("read", "db")): 0.0})
        for identity in identities
    ]

    def due_until(now: float) -> int:
        return sum(
            is_refresh_due(slots, last_attempt=0.0, now=now, interval=10.0) for slots in volumes
        )

    return [due_until(tenth + 1.0) - due_until(float(tenth)) for tenth in range(10)]


@pytest.mark.parametrize("over", ["identities", "nodes"])
def test_slots_are_spread_over_identities_and_nodes(over: str) -> None:
    """A thousand identities of one node, and one identity on a thousand nodes."""

    def identity(number: int) -> IdentityKey:
        node, account = (0, number) if over == "identities" else (number, 0)
        key_of_node = node.to_bytes(32)
        return IdentityHasher(key_of_node).identity_key(
            "WorkloadIdentity", ("issuer", f"shop:account-{account}")
        )

    assert is_even(slots_in_each_tenth(map(identity, range(1000))))


# --- rules for cached content ---------------------------------------------------------------------


@pytest.mark.parametrize("purpose", list(Purpose))
@pytest.mark.parametrize("interval", [None, 0.0, 100.0])
def test_max_age_precedes_all_other_rules(purpose: Purpose, interval: float | None) -> None:
    policy = FreshnessPolicy(cache_ttl=15.0, refresh_interval=interval)
    identity = IdentityKey("Mode", ("a",))

    def is_fresh(max_age: float | None) -> bool:
        return policy.is_fresh(
            1000.0, identity=identity, purpose=purpose, max_age=max_age, now=1010.0
        )

    assert (True, False, False) == (is_fresh(10.1), is_fresh(10.0), is_fresh(0.0))
    if purpose is Purpose.FIRST or interval is None:
        assert is_fresh(None)
    elif not interval:
        assert not is_fresh(None)


IDENTITY = IdentityKey("mode", ("someone",))
NOW = 600.0 * (1000 + phase_of("mode", "someone")) + 100.0
"""100 seconds after a slot of ten minutes, and 10 after one of 30 seconds."""


@pytest.mark.parametrize(
    ("wanted", "age", "fresh"),
    [
        (Wanted(interval=600.0), 90.0, True),
        (Wanted(interval=600.0), 110.0, False),
        (Wanted(not_before=NOW - 10), 9.0, True),
        (Wanted(interval=600.0, not_before=NOW - 10), 11.0, False),
        (Wanted(interval=1e9), 110.0, True),
    ],
)
def test_a_caller_has_its_own_interval_and_bound(wanted: Wanted, age: float, fresh: bool) -> None:
    """Two volumes of one identity may be refreshed at different intervals."""
    policy = FreshnessPolicy(cache_ttl=10.0, refresh_interval=600.0)
    assert fresh == policy.is_fresh(
        NOW - age,
        identity=IDENTITY,
        purpose=Purpose.REFRESH,
        max_age=None,
        now=NOW,
        wanted=wanted,
    )
