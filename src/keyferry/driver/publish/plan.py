"""Decides what a publish call has to do. [pure]

Upstream decides from the modification time of the target folder, which a failed first mount sets,
too. A retry could then report success for an unmounted volume, and a crash between mounting and
writing left an empty volume that was accepted. The decision here depends on three facts: whether
the volume is mounted, whether its content was written completely, and how it is known that a
publish completed.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from msgspec import Struct

from keyferry.driver.volumes.state import HAS_CONTENT, VolumeState


class Completion(Enum):
    """How it is known that a publish of the volume for this pod completed."""

    REMEMBERED = "remembered"
    """This process completed it."""
    RECORDED = "recorded"
    """A pod status exists, or may exist: the Kubernetes API is unavailable."""
    EVIDENT = "evident"
    """The content is complete, at a target path that no other pod ever has.

    Kubelet may have received its answer before the pod status was written, so the pod may run.
    """
    UNKNOWN = "unknown"
    """Not known."""


class Skip(Struct, frozen=True):
    """Do nothing: the volume is up to date."""


class Mount(Struct, frozen=True):
    """Mount and fill the volume. A failure is returned and leaves nothing behind."""


class Resume(Struct, frozen=True):
    """Fill the volume again: its content may be incomplete, or of another pod.

    A failure is returned; the content is retained.
    """


class Refresh(Struct, frozen=True):
    """Refresh a published volume. A failure of the provider is masked and content retained."""


class Adopt(Struct, frozen=True):
    """Take over a volume that an earlier process published, without a refresh.

    Its Secrets may be missing, because they are made after the pod status. They are made from the
    files. A failure is logged, not returned, because the volume is complete.
    """


Decision = Skip | Mount | Resume | Refresh | Adopt


def decide(
    state: VolumeState, *, completion: Completion, rotation_enabled: bool, due: bool
) -> Decision:
    """Decide what to do with a volume.

    1. No content: mount.
    2. Content of an unknown publish: resume.
    3. Content of an earlier process without a pod status: refresh, which writes the pod status.
    4. Content of an earlier process with a pod status: refresh, or adopt when rotation is off.
    5. Content of this process: refresh when rotation is on and the volume is due, else skip.

    Args:
        state: the state of the target path.
        completion: how it is known that a publish of this volume for this pod completed.
        rotation_enabled: whether rotation is on.
        due: whether content that this process fetched is due for a refresh.
    """
    if state not in HAS_CONTENT:
        return Mount()
    match completion:
        case Completion.UNKNOWN:
            return Resume()
        case Completion.EVIDENT:
            return Refresh()
        case Completion.RECORDED:
            return Refresh() if rotation_enabled else Adopt()
        case Completion.REMEMBERED:
            return Refresh() if rotation_enabled and due else Skip()
        case _:
            assert_never(completion)
