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
    decide,
)
from keyferry.driver.volumes.state import VolumeState

UNUSABLE = [VolumeState.ABSENT, VolumeState.EMPTY, VolumeState.BROKEN]
BOTH = [True, False]


@pytest.mark.parametrize(
    ("state", "ending", "rotates", "due"), list(product(UNUSABLE, Completion, BOTH, BOTH))
)
def test_volume_without_content_is_mounted(
    state: VolumeState, ending: Completion, rotates: bool, due: bool
) -> None:
    """An absent, empty or broken volume is never reported as published."""
    assert Mount() == decide(state, completion=ending, rotation_enabled=rotates, due=due)


@pytest.mark.parametrize(
    ("state", "rotates", "due"),
    list(product([VolumeState.WRITTEN, VolumeState.PROVIDER_WRITTEN], BOTH, BOTH)),
)
def test_content_of_an_unknown_publish_is_resumed(
    state: VolumeState, rotates: bool, due: bool
) -> None:
    """A failure is returned: the content may belong to another pod."""
    decision = decide(state, completion=Completion.UNKNOWN, rotation_enabled=rotates, due=due)
    assert Resume() == decision


@pytest.mark.parametrize("rotates", BOTH)
def test_complete_content_without_pod_status_is_refreshed(rotates: bool) -> None:
    """Pod status and Secrets may be missing, but the pod may run, so a failure is masked."""
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

    Without rotation it is checked once, and then not again.
    """
    decision = decide(VolumeState.WRITTEN, completion=ending, rotation_enabled=rotates, due=due)
    assert expected == decision
