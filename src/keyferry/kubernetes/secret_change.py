"""What has to be done to a Secret. [pure]"""

from __future__ import annotations

from msgspec import Struct


class Create(Struct, frozen=True):
    """The Secret does not exist."""


class Keep(Struct, frozen=True):
    """It is as desired, or another node has newer data."""


class Update(Struct, frozen=True):
    """It must change.

    Attributes:
        reverts: whether this undoes a change by somebody else.
    """

    reverts: bool


class Adopt(Struct, frozen=True):
    """It belongs to somebody else: add the desired keys and leave all others."""


class Recreate(Struct, frozen=True):
    """An immutable field must change: delete and recreate the Secret."""


SecretChange = Create | Keep | Update | Adopt | Recreate
