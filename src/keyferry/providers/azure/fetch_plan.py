"""What the entries of a class want of the vault, and what came of it. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import KeyferryError
from keyferry.providers.azure.responses import Content

if TYPE_CHECKING:
    from keyferry.providers.azure.objects import KeyVaultObject, ObjectRef


@dataclass(frozen=True, slots=True)
class ObjectRequest:
    """What one entry wants of the vault; equal for entries that show the same.

    Attributes:
        ref: the object, and the version to begin with.
        history: how many versions, at least 1.
    """

    ref: ObjectRef
    history: int


FetchOutcome = tuple[Content, ...] | KeyferryError
"""The versions that came, the newest first, or why there are none."""


def request_for(vault_object: KeyVaultObject) -> ObjectRequest:
    """What an entry wants."""
    return ObjectRequest(vault_object.ref, vault_object.history)
