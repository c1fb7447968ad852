"""What has to be done to a Secret. [pure]"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Create:
    """The Secret does not exist."""


@dataclass(frozen=True, slots=True)
class Keep:
    """It is as desired, or another node has newer data."""


@dataclass(frozen=True, slots=True)
class Update:
    """It must change.

    Attributes:
        reverts: whether this undoes a change by somebody else.
    """

    reverts: bool


@dataclass(frozen=True, slots=True)
class Adopt:
    """It belongs to somebody else: add the desired keys and leave all others."""


@dataclass(frozen=True, slots=True)
class Recreate:
    """An immutable field must change: delete and recreate the Secret."""


SecretChange = Create | Keep | Update | Adopt | Recreate
