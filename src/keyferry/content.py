"""What a provider delivers for one volume: files and object versions. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SecretFile:
    """One file of a volume.

    Attributes:
        path: relative, '/'-separated; checked against `volume_paths` by whoever writes it.
        mode: permission bits, 0..0o777.
        contents: the bytes, whole.
    """

    path: str
    mode: int
    contents: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """Which version of which vault object a volume holds: `secret/db-password`, `6f3a...`."""

    id: str
    version: str
