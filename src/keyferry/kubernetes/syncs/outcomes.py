"""The outcome of an attempt to sync a SecretSync. [pure]"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from keyferry.kubernetes.objects import MAX_MESSAGE, truncate_message

if TYPE_CHECKING:
    from keyferry.errors import KeyferryError


class SyncChange(Enum):
    """What a successful attempt did to the Secret."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class Synced(Struct, frozen=True):
    """The Secret has the current content.

    Attributes:
        change: what was done to it.
        missing: optional objects that do not exist, so that their keys are left out.
        note: what else to know, a sentence; may be "".
    """

    change: SyncChange
    missing: tuple[str, ...] = ()
    note: str = ""


class SyncFailed(Struct, frozen=True):
    """The attempt failed; an existing Secret keeps its content.

    Attributes:
        error: why.
        stalled: whether only a change of somebody else helps; otherwise it is retried.
    """

    error: KeyferryError
    stalled: bool


class Waiting(Struct, frozen=True):
    """There was no attempt yet.

    Attributes:
        reason: one word in CamelCase.
        message: a sentence.
    """

    reason: str
    message: str


SyncOutcome: TypeAlias = Synced | SyncFailed | Waiting


def failure_message(error: KeyferryError) -> str:
    """Return object, problem and remedy; the problem is cut first if they are too long.

    Without the detail, which may have times: each text is another write.
    """
    remedy = f" {error.remedy}" if error.remedy else ""
    remedy = truncate_message(remedy, limit=MAX_MESSAGE // 2)
    about = error.object_name
    subject = "" if not about or about in error.problem else f"{about}: "
    problem = f"{subject}{error.problem}."
    room = MAX_MESSAGE - len(remedy)
    return f"{truncate_message(problem, limit=room)}{remedy}"
