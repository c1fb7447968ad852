"""Content of a volume: files and object versions. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SecretFile:
    """One file of a volume.

    Attributes:
        path: relative, '/'-separated; the writer checks it with `volume_paths`.
        mode: permission bits, 0..0o777.
        contents: content of the whole file.
    """

    path: str
    mode: int
    contents: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """Version of a vault object in a volume, such as `secret/db-password` and `6f3a...`."""

    id: str
    version: str
