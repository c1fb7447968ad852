"""keyferry.resilience.ticks: one tick in each interval, scattered evenly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from keyferry.resilience.ticks import phase_of, slot_passed

INTERVAL = 120.0
moments = st.floats(0.0, 1e7)
shares = st.floats(0.0, 1.0, exclude_max=True)


@given(since=moments, share=shares)
def test_every_interval_has_a_tick(since: float, share: float) -> None:
    """Whatever the share is."""
    assert slot_passed(since, since + INTERVAL + 1e-6, interval=INTERVAL, phase=share)


@given(since=moments, share=shares, after=st.lists(st.floats(0.0, INTERVAL - 1e-6), max_size=9))
def test_no_interval_has_two(since: float, share: float, after: list[float]) -> None:
    """Of all that look within less than an interval one meets it."""
    now, met = since, 0
    for moment in sorted(since + seconds for seconds in after):
        met += slot_passed(now, moment, interval=INTERVAL, phase=share)
        now = moment
    assert met <= 1


def test_the_share_is_what_goes_by_before_it() -> None:
    """By the clock that both sides have."""
    assert not slot_passed(0.0, 29.9, interval=INTERVAL, phase=0.25)
    assert slot_passed(0.0, 30.0, interval=INTERVAL, phase=0.25)
    assert not slot_passed(30.0, 149.9, interval=INTERVAL, phase=0.25)
    assert slot_passed(30.0, 150.0, interval=INTERVAL, phase=0.25)


def test_without_an_interval_it_always_ticks() -> None:
    """Every look is one."""
    assert slot_passed(5.0, 5.0, interval=0.0, phase=0.5)


def test_names_are_scattered_evenly_and_always_the_same() -> None:
    """On one node, and one name over nodes."""
    for names in ([("node", f"{n}") for n in range(1000)], [(f"{n}", "pod") for n in range(1000)]):
        shares = [phase_of(*name) for name in names]
        assert shares == [phase_of(*name) for name in names]
        tenths = [sum(n / 10 <= share < (n + 1) / 10 for share in shares) for n in range(10)]
        assert 1000 == sum(tenths)
        assert 50 < min(tenths)
        assert max(tenths) < 150


def test_names_are_not_run_together() -> None:
    """Where one ends counts."""
    assert phase_of("a", "bc") != phase_of("ab", "c")
    assert phase_of("a\0", "b") != phase_of("a", "\0b")
