"""Owners of files: what this process may set, and why it fails.

Only a process with CAP_CHOWN gives a file to another user. The driver in a cluster is privileged.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keyferry.content import MAX_ID
from keyferry.errors import FilesInvalidError, VolumeError
from keyferry.process import has_capability
from keyferry.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from keyferry.content import FileOwner, SecretFile

_CAP_CHOWN = 0


def can_set_owners() -> bool:
    """Return whether this process may give files to other users (effective CAP_CHOWN)."""
    return has_capability(_CAP_CHOWN)


def without_foreign_owners(
    files: Sequence[SecretFile],
) -> tuple[tuple[SecretFile, ...], tuple[str, ...]]:
    """Remove the owners that only a process with CAP_CHOWN may set.

    An ordinary user may keep a file, and give it to a group that the user belongs to.

    Returns:
        The files, and the sorted paths of those that have another owner than they ask for.
    """
    uid, groups = os.geteuid(), {os.getegid(), *os.getgroups()}

    def is_own(owner: FileOwner | None) -> bool:
        return owner is None or (owner.uid == uid and owner.gid in (None, *groups))

    paths = tuple(sorted(file.path for file in files if not is_own(file.owner)))
    kept = tuple(file if is_own(file.owner) else replace(file, owner=None) for file in files)
    return kept, paths


def check_owner(file: SecretFile) -> None:
    """Check that the ids of an owner can exist. [pure]

    Raises:
        FilesInvalidError: an id is out of range.
    """
    if file.owner is None:
        return
    for value in (file.owner.uid, file.owner.gid or 0):
        if not 0 <= value <= MAX_ID:
            raise FilesInvalidError(
                f"fileOwner of {file.path[:100]!r}: the id {value} is not in 0..{MAX_ID}",
                "Correct fileOwner in the SecretProviderClass.",
            )


@contextmanager
def as_owner_error(file: SecretFile) -> Iterator[None]:
    """Translate an OSError of a call that sets the owner of `file`.

    Raises:
        VolumeError: the kernel refused.
    """
    try:
        yield
    except OSError as error:
        owner = _written(file.owner)
        problem = f"cannot give {file.path!r} to fileOwner {owner}: {error.strerror or error}"
        remedy = "Check the file system of the volume."
        if error.errno == errno.EPERM:
            remedy = (
                "Only a process with CAP_CHOWN may do this: run the driver as root, or remove"
                " fileOwner from the SecretProviderClass."
            )
        elif error.errno == errno.EINVAL:
            remedy = (
                "The driver runs in a user namespace without this id: set fileOwner to an id that"
                " /proc/self/uid_map and gid_map of the driver contain."
            )
        raise VolumeError(problem, remedy) from error


def _written(owner: FileOwner | None) -> str:
    if owner is None:
        return "of the volume"
    return str(owner.uid) if owner.gid is None else f"{owner.uid}:{owner.gid}"
