"""What a publish call has to do, decided from what is there. [pure]

Upstream decides from the modification time of the target folder, which a failed first mount also
sets; so a retry could report success over an unmounted volume, and a crash between mounting and
writing left an empty volume that was then accepted. Here the decision rests on three facts: is it
mounted, was content written completely, and how is it known that a publish reached its end: this
process remembers, the pod status says so, or the content is whole at a path of this pod alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never


class VolumeState(Enum):
    """What stands at a target path."""

    ABSENT = "absent"
    """Nothing, or a plain folder."""
    EMPTY = "empty"
    """Mounted, but no content was ever written completely."""
    WRITTEN = "written"
    """Mounted, with content that was written completely: one rename ended it."""
    PROVIDER_WRITTEN = "foreign"
    """Mounted, with files that a provider wrote itself; they do not tell whether all are there."""
    BROKEN = "broken"
    """Mounted, but not readable any more."""


HAS_CONTENT = frozenset({VolumeState.WRITTEN, VolumeState.PROVIDER_WRITTEN})
"""There is content, which a failure must leave as it is."""


class Completion(Enum):
    """How it is known that a publish of a volume for this pod reached its end."""

    REMEMBERED = "remembered"
    """This process brought the content."""
    RECORDED = "recorded"
    """The pod status says so; or the API is away, and it may."""
    EVIDENT = "evident"
    """The content is whole, at a path that no other pod ever has: it is this pod's.

    Kubelet may have had its answer before the pod status was written, so the pod may run.
    """
    UNKNOWN = "unknown"
    """Nothing tells."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing is to be done: the volume is as it should be."""


@dataclass(frozen=True, slots=True)
class Mount:
    """There is no usable volume. A failure is reported and leaves nothing behind."""


@dataclass(frozen=True, slots=True)
class Resume:
    """There is content, but nothing tells that it is whole and this pod's.

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
    state: VolumeState, *, completion: Completion, rotation_enabled: bool, due: bool
) -> Decision:
    """What to do with a volume.

    Args:
        state: what stands at the target path.
        completion: how it is known that a publish of this volume for this pod reached its end.
        rotation_enabled: whether rotation is on.
        due: whether content that this process brought is to be refreshed.
    """
    if state not in HAS_CONTENT:
        return Mount()
    match completion:
        case Completion.UNKNOWN:
            return Resume()
        case Completion.EVIDENT:
            return Refresh()  # which writes the record, and keeps the content where it cannot
        case Completion.RECORDED:
            return Refresh() if rotation_enabled else Adopt()
        case Completion.REMEMBERED:
            return Refresh() if rotation_enabled and due else Skip()
        case _:
            assert_never(completion)
