"""Content of a volume: files, the limit of their size, and object versions. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from keyferry.errors import MountLimitError

MAX_ID = 2**32 - 2
"""The largest user and group id; the one after it means "no change" to Linux."""


class FileOwner(Struct, frozen=True):
    """Owner of a file.

    Attributes:
        uid: the user, 0..MAX_ID.
        gid: the group; None to leave the group of the volume.
    """

    uid: int
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class SecretFile:
    """One file of a volume.

    Attributes:
        path: relative, '/'-separated; the writer checks it with `volume_paths`.
        mode: permission bits, 0..0o777.
        contents: content of the whole file.
        owner: its owner; None for the user of the driver and the group of the volume.
    """

    path: str
    mode: int
    contents: bytes = field(repr=False)
    owner: FileOwner | None = None


class NamedFile(Struct, frozen=True):
    """A file that a mount will produce, and the names by which `secretObjects` may refer to it.

    Attributes:
        path: path inside the volume, which is always one of the names.
        aliases: further names, such as the name of the object in the vault.
        object_name: name of the object in messages, such as `secret db-password`.
        optional: whether a mount may lack the file, because the vault lacks the object.
        is_folder: whether the path is a folder of files whose names only the mount shows.
        is_derived: whether the file is made from those of objects.
    """

    path: str
    aliases: frozenset[str]
    object_name: str
    optional: bool = False
    is_folder: bool = False
    is_derived: bool = False

    def means(self, name: str) -> bool:
        """Return whether `secretObjects` may refer to the file as `name`."""
        if self.is_folder:
            return name.startswith(f"{self.path}/")
        return name == self.path or name in self.aliases


class ObjectVersion(Struct, frozen=True):
    """Version of a vault object in a volume, such as `secret/db-password` and `6f3a...`."""

    id: str
    version: str


MISSING_VERSION = "missing"
"""The version of an optional object that the vault does not have."""


class MissingObject(Struct, frozen=True):
    """An optional object that the vault does not have.

    Attributes:
        id: of the object in pod statuses, such as `secret/db-password`.
        paths: the files that it would have in the volume, and folders of them.
        reason: why it is missing, a clause without a value, such as `it is disabled`.
        keeps: whether the volume keeps the files that it had.
        further_ids: of the older versions that its history might have.
        kept: whether the volume had files of it, and keeps them.
    """

    id: str
    paths: tuple[str, ...]
    reason: str
    keeps: bool = True
    further_ids: tuple[str, ...] = ()
    kept: bool = False

    def has(self, path: str) -> bool:
        """Return whether a file belongs to the object."""
        elements = path.split("/")
        return any(
            "/".join(elements[:count]) in self.paths for count in range(1, len(elements) + 1)
        )

    @property
    def explanation(self) -> str:
        """Why it is missing, and what the volume has instead, for messages."""
        return f"{self.reason}; the volume keeps its last content" if self.kept else self.reason


DEFAULT_MAX_BYTES = 4 * 1024 * 1024
"""The default limit of gRPC, which upstream has for the responses of its providers."""

SIZE_REMEDY = (
    "Raise --max-call-recv-msg-size (maxCallRecvMsgSize in the chart) and the memory limit of the"
    " driver, or split the SecretProviderClass."
)


class FileLimit:
    """Counts the files of one volume while they are rendered.

    Many files can be made from one object, so their size is not bounded by what was fetched.

    Args:
        max_bytes: the maximum size of all paths and contents.
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._files = 0
        self._bytes = 0

    @property
    def room(self) -> int:
        """Bytes that further files may have."""
        return max(0, self._max_bytes - self._bytes)

    def add(self, file: SecretFile) -> SecretFile:
        """Count `file`, and return it.

        Raises:
            MountLimitError: the files are too large.
        """
        self._files += 1
        self._bytes += len(file.path) + len(file.contents)
        if self._bytes > self._max_bytes:
            raise MountLimitError(
                f"the volume is too large: its first {self._files} files have {self._bytes} bytes,"
                f" and --max-call-recv-msg-size limits a volume to {self._max_bytes} bytes",
                SIZE_REMEDY,
            )
        return file
