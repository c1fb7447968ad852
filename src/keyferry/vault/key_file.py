"""The key of versions that one node has for itself, in a file that outlives the process."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from keyferry.errors import Hop, PlatformError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32


def key_in_file(path: Path) -> bytes:
    """The key in a file, which is made with a random one where there is none.

    Its folder may belong to others, such as /tmp: so a link, a file of another user and one that
    others may read are refused, and left as they are. Of several processes that make it at the same
    time the first one counts for all.

    Raises:
        PlatformError: the file cannot be used or made.
    """
    try:
        found = _read(path)
        if found is None:
            _make(path)
            found = _read(path)
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be read") from error
    if found is None:
        raise _unusable(path, "it was removed at once")
    return found


def _read(path: Path) -> bytes | None:
    """The key; None where there is no file."""
    if path.is_symlink():
        raise _unusable(path, "it is a link")
    try:
        # A pipe does not keep us waiting, and a link that has just come is not followed.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _unusable(path, "it is no plain file")
        if found.st_uid != os.geteuid():
            raise _unusable(path, "it belongs to another user")
        if found.st_mode & 0o077:
            raise _unusable(path, "others than its owner may use it")
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise _unusable(path, f"it does not hold {KEY_BYTES} bytes")
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "wb") as stream:
        try:
            stream.write(secrets.token_bytes(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
            # A link, unlike a rename, never takes the place of what another process has made.
            with suppress(FileExistsError):
                os.link(temporary, path, follow_symlinks=False)
        finally:
            temporary.unlink(missing_ok=True)


def _unusable(path: Path, problem: str) -> PlatformError:
    return PlatformError(
        f"the key of versions in {path} cannot be used: {problem}",
        "Remove the file, and let the folder belong to the user of Keyferry; it is made anew.",
        hop=Hop.STORE,
    )
