"""keyferry.driver.publish.plan: every combination of what is there and what is known."""

from __future__ import annotations

from itertools import product

import pytest

from keyferry.driver.publish.plan import (
    Adopt,
    Completion,
    Decision,
    Mount,
    Refresh,
    Resume,
    Skip,
    VolumeState,
    decide,
)

UNUSABLE = [VolumeState.ABSENT, VolumeState.EMPTY, VolumeState.BROKEN]
BOTH = [True, False]


@pytest.mark.parametrize(
    ("state", "ending", "rotates", "due"), list(product(UNUSABLE, Completion, BOTH, BOTH))
)
def test_what_is_not_a_written_volume_is_mounted_whatever_is_remembered(
    state: VolumeState, ending: Completion, rotates: bool, due: bool
) -> None:
    """An absent, empty or broken volume is never reported as published (issue 2, item 2)."""
    assert Mount() == decide(state, completion=ending, rotation_enabled=rotates, due=due)


@pytest.mark.parametrize(
    ("state", "rotates", "due"),
    list(product([VolumeState.WRITTEN, VolumeState.PROVIDER_WRITTEN], BOTH, BOTH)),
)
def test_content_of_which_nothing_tells_that_it_is_whole_is_resumed(
    state: VolumeState, rotates: bool, due: bool
) -> None:
    """A failure is reported: whoever asks may not have what is there."""
    decision = decide(state, completion=Completion.UNKNOWN, rotation_enabled=rotates, due=due)
    assert Resume() == decision


@pytest.mark.parametrize("rotates", BOTH)
def test_whole_content_without_a_record_is_refreshed(rotates: bool) -> None:
    """The record and the Secrets may be missing, but the pod may run: nothing may fail it."""
    decision = decide(
        VolumeState.WRITTEN, completion=Completion.EVIDENT, rotation_enabled=rotates, due=False
    )
    assert Refresh() == decision


@pytest.mark.parametrize(
    ("ending", "rotates", "due", "expected"),
    [
        (Completion.RECORDED, False, False, Adopt()),
        (Completion.REMEMBERED, False, False, Skip()),
        (Completion.REMEMBERED, False, True, Skip()),
        (Completion.REMEMBERED, True, False, Skip()),
        (Completion.REMEMBERED, True, True, Refresh()),
        (Completion.RECORDED, True, False, Refresh()),
        (Completion.RECORDED, True, True, Refresh()),
    ],
)
def test_a_published_volume_is_refreshed_when_rotation_is_on_and_it_is_due(
    ending: Completion, rotates: bool, due: bool, expected: Decision
) -> None:
    """What another process brought is of an age that this one cannot know.

    Without rotation it is looked after once, and then left alone.
    """
    decision = decide(VolumeState.WRITTEN, completion=ending, rotation_enabled=rotates, due=due)
    assert expected == decision
