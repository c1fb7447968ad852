"""What a publish call has to do, decided from what is there. [pure]

Upstream decides from the modification time of the target folder, which a failed first mount also
sets; so a retry could report success over an unmounted volume, and a crash between mounting and
writing left an empty volume that was then accepted. Here the decision rests on three facts: is it
mounted, was content written completely, and did a publish reach its end (the pod status says so, or
this process remembers).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class VolumeState(Enum):
    """What stands at a target path."""

    ABSENT = "absent"
    """Nothing, or a plain folder."""
    EMPTY = "empty"
    """Mounted, but no content was ever written completely."""
    WRITTEN = "written"
    """Mounted, with content that was written completely."""
    BROKEN = "broken"
    """Mounted, but not readable any more."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing is to be done: the volume is as it should be."""


@dataclass(frozen=True, slots=True)
class Mount:
    """There is no usable volume. A failure is reported and leaves nothing behind."""


@dataclass(frozen=True, slots=True)
class Resume:
    """The content is whole but the publish never reached its end.

    A failure is reported; the content stays.
    """


@dataclass(frozen=True, slots=True)
class Refresh:
    """A published volume is due. A failure of the provider is masked and the content stays."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """An earlier process published the volume, and its content is to be left alone.

    Its Secrets may be missing, because they are made after the record by which this is known. They
    are made from the files; a failure is told, not reported, because the volume is whole.
    """


Decision = Skip | Mount | Resume | Refresh | Adopt


def decide(
    state: VolumeState,
    *,
    finished: bool,
    rotates: bool,
    known: bool,
    due: bool,
) -> Decision:
    """What to do with a volume.

    Args:
        state: what stands at the target path.
        finished: whether a publish of this volume for this pod reached its end.
        rotates: whether rotation is on.
        known: whether this process brought the content.
        due: whether content that it brought is to be refreshed.
    """
    if state is not VolumeState.WRITTEN:
        return Mount()
    if not finished:
        return Resume()
    if not rotates:
        return Skip() if known else Adopt()
    return Skip() if known and not due else Refresh()
