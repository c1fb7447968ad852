"""keyferry.driver.plan: every combination of what is there and what is known."""

from __future__ import annotations

from itertools import product

import pytest

from keyferry.driver.plan import Adopt, Decision, Mount, Refresh, Resume, Skip, VolumeState, decide

UNUSABLE = [VolumeState.ABSENT, VolumeState.EMPTY, VolumeState.BROKEN]
BOTH = [True, False]


@pytest.mark.parametrize(
    ("state", "finished", "rotates", "known", "due"),
    list(product(UNUSABLE, BOTH, BOTH, BOTH, BOTH)),
)
def test_what_is_not_a_written_volume_is_mounted_whatever_is_remembered(
    state: VolumeState, finished: bool, rotates: bool, known: bool, due: bool
) -> None:
    """An absent, empty or broken volume is never reported as published (issue 2, item 2)."""
    assert Mount() == decide(state, finished=finished, rotates=rotates, known=known, due=due)


@pytest.mark.parametrize(("rotates", "due"), list(product(BOTH, BOTH)))
def test_a_whole_volume_whose_publish_never_ended_is_resumed(rotates: bool, due: bool) -> None:
    """Its pod status or its Secrets may be missing."""
    decision = decide(VolumeState.WRITTEN, finished=False, rotates=rotates, known=False, due=due)
    assert Resume() == decision


@pytest.mark.parametrize(
    ("rotates", "known", "due", "expected"),
    [
        (False, False, False, Adopt()),
        (False, True, False, Skip()),
        (False, True, True, Skip()),
        (True, True, False, Skip()),
        (True, True, True, Refresh()),
        (True, False, False, Refresh()),
        (True, False, True, Refresh()),
    ],
)
def test_a_published_volume_is_refreshed_when_rotation_is_on_and_it_is_due(
    rotates: bool, known: bool, due: bool, expected: Decision
) -> None:
    """What another process brought is of an age that this one cannot know.

    Without rotation it is looked after once, and then left alone.
    """
    decision = decide(VolumeState.WRITTEN, finished=True, rotates=rotates, known=known, due=due)
    assert expected == decision
