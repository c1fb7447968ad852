"""The key of versions that one node has for itself, in a file that outlives the process."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32


def load_or_create_key(path: Path) -> bytes:
    """The key in a file, which is made with a random one where there is none.

    Its folder may belong to others, such as /tmp: so a link, a file of another user and one that
    others may read are refused, and left as they are. Of several processes that make it at the same
    time the first one counts for all.

    Raises:
        PlatformError: the file cannot be used or made.
    """
    try:
        found = _read_key_file(path)
        if found is None:
            _create_key_file(path)
            found = _read_key_file(path)
    except OSError as error:
        raise _key_file_error(path, error.strerror or "it cannot be read") from error
    if found is None:
        raise _key_file_error(path, "it was removed at once")
    return found


def _read_key_file(path: Path) -> bytes | None:
    """The key; None where there is no file."""
    if path.is_symlink():
        raise _key_file_error(path, "it is a link")
    try:
        # A pipe does not keep us waiting, and a link that has just come is not followed.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _key_file_error(path, "it is no plain file")
        if found.st_uid != os.geteuid():
            raise _key_file_error(path, "it belongs to another user")
        if found.st_mode & 0o077:
            raise _key_file_error(path, "others than its owner may use it")
        key = os.read(descriptor, KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise _key_file_error(path, f"it does not hold {KEY_BYTES} bytes")
    return key


def _create_key_file(path: Path) -> None:
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


def _key_file_error(path: Path, problem: str) -> PlatformError:
    return PlatformError(
        f"the key of versions in {path} cannot be used: {problem}",
        "Remove the file, and let the folder belong to the user of Keyferry; it is made anew.",
        stage=Stage.STORE,
    )
