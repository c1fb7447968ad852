"""When a SecretSync is refreshed next."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyferry.resilience.freshness import RefreshSlot, phase_of, slot_passed
from keyferry.sync_controller.rules.schedule import MIN_INTERVAL, interval_of, next_refresh
from tests.fakes.secret_syncs import secret_sync, sync_class

HOUR = 3600.0


def interval(
    *, annotation: str = "", parameter: str = "", default: float | None = HOUR
) -> float | None:
    annotations = {"keyferry.dev/refresh-interval": annotation} if annotation else {}
    parameters = {"rotationPollInterval": parameter} if parameter else {}
    sync, spc = secret_sync(annotations=annotations), sync_class(parameters=parameters)
    return interval_of(sync, spc, default)


def test_annotation_overrides_the_class_which_overrides_the_flag() -> None:
    """The owner of the SecretSync knows best."""
    assert HOUR == interval()
    assert 1800 == interval(parameter="30m")
    assert 600 == interval(annotation="10m", parameter="30m")
    assert 600 == interval(annotation="10m", default=None)


@pytest.mark.parametrize("default", [None, 0.0])
def test_without_an_interval_there_is_no_refresh(default: float | None) -> None:
    """--rotation-poll-interval=0 turns refreshes off, except where an interval is set."""
    assert interval(default=default) is None
    assert 1800 == interval(parameter="30m", default=default)


def test_refresh_can_be_turned_off_for_one_secret_sync() -> None:
    """Whatever the SecretProviderClass says."""
    assert interval(annotation="never", parameter="30m") is None
    assert interval(parameter="0s") is None


@pytest.mark.parametrize("text", ["often", "-1m", "0"])
def test_invalid_interval_has_no_effect(text: str) -> None:
    """An event reports it."""
    assert HOUR == interval(annotation=text)
    assert 1800 == interval(annotation=text, parameter="30m")


def test_interval_is_not_shorter_than_a_slot() -> None:
    """A slot must not begin before the last one is done."""
    assert MIN_INTERVAL == interval(annotation="1ms")


def test_slots_are_those_of_the_identities() -> None:
    """All SecretSyncs of one identity are refreshed together; the next slot of any counts."""
    slots = [RefreshSlot(0.25, 0), RefreshSlot(0.75, 0)]
    due = [next_refresh(slots, "uid", interval=100, now=now) for now in (0, 24.9, 25, 74, 75, 130)]
    assert [25, 25, 75, 75, 125, 175] == due


def test_unknown_identity_has_the_slot_of_the_secret_sync() -> None:
    """After a restart, not all SecretSyncs are due at once."""
    due = next_refresh((), "uid", interval=100, now=0)
    assert phase_of("uid") * 100 == pytest.approx(due)
    many = [next_refresh((), f"uid-{n}", interval=100, now=0) or 0 for n in range(1000)]
    for start in range(0, 100, 10):
        assert 50 < sum(start <= each < start + 10 for each in many) < 200


def test_no_refresh_without_an_interval() -> None:
    """Also if the identities are known."""
    assert next_refresh([RefreshSlot(0.5, 0)], "uid", interval=None, now=0) is None


@example(0.3, 60.0, 2)
@given(st.floats(0, 1, exclude_max=True), st.floats(MIN_INTERVAL, 1e5), st.integers(0, 100_000))
def test_slot_that_begins_now_is_not_the_next_one(
    phase: float, interval: float, number: int
) -> None:
    """Despite rounding: the SecretSync was refreshed just now."""
    now = (number + phase) * interval
    due = next_refresh([RefreshSlot(phase, 0)], "uid", interval=interval, now=now)
    assert due is not None
    assert now < due <= now + interval * (1 + 1e-6)


@given(
    phases=st.lists(st.floats(0, 1, exclude_max=True), max_size=3),
    interval=st.floats(MIN_INTERVAL, 1e7),
    now=st.floats(0, 1e9),
)
def test_next_slot_is_in_the_future_and_the_vault_is_asked_in_it(
    phases: list[float], interval: float, now: float
) -> None:
    """Else the refresh would run again at once, or be answered from the cache."""
    slots = [RefreshSlot(phase, 0) for phase in phases]
    due = next_refresh(slots, "uid", interval=interval, now=now)
    assert due is not None
    assert now < due <= now + interval * (1 + 1e-6)
    later = due + 0.001 * interval  # by when the timetable has noticed it
    assert any(
        slot_passed(now, later, interval=interval, phase=phase)
        for phase in phases or [phase_of("uid")]
    )
