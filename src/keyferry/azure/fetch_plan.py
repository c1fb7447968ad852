"""What the entries of a class want of the vault, and what came of it. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.azure.contents import Content
from keyferry.errors import KeyferryError

if TYPE_CHECKING:
    from keyferry.azure.objects import ObjectRef, VaultObject


@dataclass(frozen=True, slots=True)
class Ask:
    """What one entry wants of the vault; equal for entries that show the same.

    Attributes:
        ref: the object, and the version to begin with.
        history: how many versions, at least 1.
    """

    ref: ObjectRef
    history: int


Fetched = tuple[Content, ...] | KeyferryError
"""The versions that came, the newest first, or why there are none."""


def ask_of(found: VaultObject) -> Ask:
    """What an entry wants."""
    return Ask(found.ref, found.history)
