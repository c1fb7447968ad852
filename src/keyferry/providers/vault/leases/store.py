"""Keeps what is held for pods beyond the end of the process, where there is a folder for it.

Without one, or with one that does not do, everything works, but the next process knows nothing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING

from keyferry.errors import PlatformError, Stage
from keyferry.formats.mountinfo import mount_points
from keyferry.formats.private_files import (
    UnusableFileError,
    read_private_file,
    write_private_file,
)
from keyferry.providers.vault.leases.record import UnusableRecordError, decode_record, encode_record
from keyferry.resilience.cache_key import IdentityHasher
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.leases.lease import Lease

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""A larger file is none of ours."""
_IN_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


class TmpfsDirectory:
    """The files of one provider, by name.

    Args:
        path: of the folder, which is made where it is missing.

    Raises:
        PlatformError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags)
        except OSError as error:
            problem = "it is a link" if path.is_symlink() else error.strerror or "it has no place"
            raise _directory_error(path, problem) from error
        try:
            self._check_private(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def names(self) -> list[str]:
        """Of all files; what was never finished is removed.

        Raises:
            OSError: the folder cannot be read.
        """
        found = sorted(os.listdir(self._descriptor))  # noqa: PTH208 - what is held open, whatever the path is now
        for name in found:
            if name.startswith("."):
                self.remove(name)
        return [name for name in found if not name.startswith(".")]

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            OSError: it cannot be read, or is not a plain file of ours.
        """
        return read_private_file(name, max_bytes=MAX_RECORD_BYTES, dir_fd=self._descriptor)

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or as it was before.

        Raises:
            OSError: there is no room.
        """
        write_private_file(name, content, dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """No such file any more."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        """Let go of the folder; the files stay."""
        os.close(self._descriptor)

    def _check_private(self, path: Path) -> None:
        found = os.fstat(self._descriptor)
        if found.st_uid != os.geteuid():
            raise _directory_error(path, "it belongs to another user")
        if found.st_mode & 0o077:
            raise _directory_error(path, "others than its owner may use it")
        kind = _file_system_of(found.st_dev)
        if kind not in _IN_MEMORY_FILE_SYSTEMS:
            raise _directory_error(
                path, f"it is not in memory, but on {kind or 'an unknown file system'}"
            )


def _file_system_of(device: int) -> str:
    """Return the type of the file system of a device, "" if it is unknown."""
    numbers = os.major(device), os.minor(device)
    try:
        return next((at.file_system for at in mount_points() if at.device == numbers), "")
    except OSError:
        return ""


def _directory_error(path: Path, problem: str) -> PlatformError:
    return PlatformError(
        f"the folder of leases {path} cannot be used: {problem}",
        "Let --lease-dir name a folder on a tmpfs, such as /run/keyferry.",
        stage=Stage.STORE,
    )


_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HASHER_KEY_FILE = "identities.key"
_HASHER_KEY_BYTES = 32
_log = get_logger("vault")


class LeaseStore:
    """The records of one provider.

    Args:
        path: of its folder; None for none.

    Attributes:
        identity_hasher: those by which leases are kept. With a folder they are the same in the next
            process, because their key lies beside the records.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._directory: TmpfsDirectory | None = None
        self._boot_id = ""
        self._warned = False
        self.identity_hasher = IdentityHasher(token_bytes(_HASHER_KEY_BYTES))

    def load(self, now: float) -> list[Lease]:
        """Begin to keep; returns what an earlier process held and is good still.

        What hangs on one token has one `Grant`.

        Args:
            now: by the clock of the machine.
        """
        if self._path is None:
            return []
        try:
            self._boot_id = _BOOT_ID.read_text().strip()
            self._directory = TmpfsDirectory(self._path)
            self.identity_hasher = IdentityHasher(_load_or_create_hasher_key(self._directory))
            found = self._unexpired(self._load_records(self._directory, now), now)
        except PlatformError as error:
            _log.error(
                "what is held for pods will not survive a restart of this process",
                **error.log_pairs(),
            )
        except OSError as error:
            self._log_failure(error)
        else:
            return found
        return []

    def save(self, lease: Lease) -> None:
        """Keep a lease as it is now."""
        if self._directory is None:
            if self._path is None and not self._warned:
                self._warned = True
                _log.info(
                    "what is held for pods will not survive a restart of this process",
                    remedy="let --lease-dir name a folder on a tmpfs, such as /run/keyferry",
                )
            return
        try:
            self._directory.write(_record_name(lease), encode_record(lease, boot_id=self._boot_id))
        except OSError as error:
            self._log_failure(error)
        else:
            self._warned = False

    def delete(self, lease: Lease) -> None:
        """It is held no longer."""
        if self._directory is not None:
            self._directory.remove(_record_name(lease))

    def close(self) -> None:
        """What is kept stays."""
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _load_records(self, directory: TmpfsDirectory, now: float) -> list[Lease]:
        found = []
        for name in directory.names():
            if name == _HASHER_KEY_FILE:
                continue
            try:
                lease = decode_record(directory.read(name), boot_id=self._boot_id, now=now)
                if _record_name(lease) != name:
                    raise UnusableRecordError("it bears another's name")
            except (OSError, UnusableRecordError) as error:
                why = str(error) if isinstance(error, UnusableRecordError) else "it cannot be read"
                _log.warning("a record of a lease is dropped", file=name, why=why)
                directory.remove(name)
            else:
                found.append(lease)
        return found

    def _unexpired(self, leases: list[Lease], now: float) -> list[Lease]:
        grants: dict[tuple[str, str], VaultToken] = {}
        good = []
        for lease in leases:
            if lease.expires_at <= now:
                self.delete(lease)
                _log.warning(
                    "a secret ended while nobody renewed it; the next refresh of its volume gets a"
                    " new one",
                    vault=lease.key.vault,
                    path=lease.path,
                )
                continue
            if lease.id:
                place = (lease.key.vault, lease.result.token.value)
                grant = grants.setdefault(place, lease.result.token)
                lease.result = replace(lease.result, token=grant)
            good.append(lease)
        return good

    def _log_failure(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.error(
                "a lease could not be kept for the next process",
                folder=str(self._path),
                error=error.strerror or type(error).__name__,
            )


def _load_or_create_hasher_key(directory: TmpfsDirectory) -> bytes:
    """The key in the folder, made where there is none that can be used."""
    with suppress(FileNotFoundError, PermissionError, UnusableFileError):
        found = directory.read(_HASHER_KEY_FILE)
        if len(found) == _HASHER_KEY_BYTES:
            return found
    made = token_bytes(_HASHER_KEY_BYTES)
    directory.write(_HASHER_KEY_FILE, made)
    return made


def _record_name(lease: Lease) -> str:
    key = lease.key
    parts = (key.vault, key.identity.mode, *key.identity.digest, "", *key.resource)
    return sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()
