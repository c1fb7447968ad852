"""keyferry.driver.plan: every combination of what is there and what is known."""

from __future__ import annotations

from itertools import product

import pytest

from keyferry.driver.plan import Adopt, Decision, Mount, Refresh, Resume, Skip, VolumeState, decide

INTERVAL = 120.0
UNUSABLE = [VolumeState.ABSENT, VolumeState.EMPTY, VolumeState.BROKEN]


@pytest.mark.parametrize(
    ("state", "finished", "interval", "age"),
    list(product(UNUSABLE, [True, False], [None, INTERVAL], [None, 0.0, 1e9])),
)
def test_what_is_not_a_written_volume_is_mounted_whatever_is_remembered(
    state: VolumeState, finished: bool, interval: float | None, age: float | None
) -> None:
    """An absent, empty or broken volume is never reported as published (issue 2, item 2)."""
    assert Mount() == decide(state, finished=finished, rotation_interval=interval, age=age)


@pytest.mark.parametrize(("interval", "age"), list(product([None, INTERVAL], [None, 0.0, 1e9])))
def test_a_whole_volume_whose_publish_never_ended_is_resumed(
    interval: float | None, age: float | None
) -> None:
    """Its pod status or its Secrets may be missing."""
    decision = decide(VolumeState.WRITTEN, finished=False, rotation_interval=interval, age=age)
    assert Resume() == decision


@pytest.mark.parametrize(
    ("interval", "age", "expected"),
    [
        (None, None, Adopt()),
        (None, 0.0, Skip()),
        (None, 1e9, Skip()),
        (INTERVAL, 0.0, Skip()),
        (INTERVAL, 119.9, Skip()),
        (INTERVAL, 120.0, Refresh()),
        (INTERVAL, 1e9, Refresh()),
        (INTERVAL, None, Refresh()),
        (0.0, 0.0, Refresh()),
    ],
)
def test_a_published_volume_is_refreshed_when_rotation_is_on_and_it_is_due(
    interval: float | None, age: float | None, expected: Decision
) -> None:
    """Due means as old as the interval, or of an age that this process cannot know.

    Without rotation a volume of unknown age is looked after once, and then left alone.
    """
    decision = decide(VolumeState.WRITTEN, finished=True, rotation_interval=interval, age=age)
    assert expected == decision
