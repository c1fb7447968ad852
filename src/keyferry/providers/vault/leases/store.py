"""Persists leases in a directory on a tmpfs, so that they survive a restart of the process.

Without a usable directory leases are tracked in this process only: the next process neither renews
nor revokes them.
"""

from __future__ import annotations

import os
from contextlib import suppress
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
from keyferry.records import replace
from keyferry.resilience.cache_key import IdentityHasher
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.leases.lease import Lease

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Maximum size of a file; larger files were not written by Keyferry."""
_IN_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


class TmpfsDirectory:
    """A private directory in memory. It stays open, so that a renamed path has no effect.

    Args:
        path: path of the directory, which is created if it is missing.

    Raises:
        PlatformError: the directory is unusable: not private, or not on a tmpfs.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags)
        except OSError as error:
            problem = "it is a symbolic link" if path.is_symlink() else error.strerror
            raise _directory_error(path, problem or "it cannot be opened") from error
        try:
            self._check_private(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def names(self) -> list[str]:
        """Return the names of all files, and delete files that were not written completely.

        Raises:
            OSError: the directory cannot be read.
        """
        names = sorted(os.listdir(self._descriptor))  # noqa: PTH208 - the path may have changed
        for name in names:
            if name.startswith("."):
                self.remove(name)
        return [name for name in names if not name.startswith(".")]

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: the file cannot be read, or is not a private regular file.
        """
        return read_private_file(name, max_bytes=MAX_RECORD_BYTES, dir_fd=self._descriptor)

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically.

        Raises:
            OSError: the file cannot be written, for example because the tmpfs is full.
        """
        write_private_file(name, content, dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        """Delete a file. Errors are ignored."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def close(self) -> None:
        """Close the directory. The files remain."""
        os.close(self._descriptor)

    def _check_private(self, path: Path) -> None:
        status = os.fstat(self._descriptor)
        if status.st_uid != os.geteuid():
            raise _directory_error(path, "it belongs to another user")
        if status.st_mode & 0o077:
            raise _directory_error(path, "it is accessible to other users")
        file_system = _file_system_of(status.st_dev)
        if file_system not in _IN_MEMORY_FILE_SYSTEMS:
            problem = f"it is on {file_system or 'an unknown file system'} instead of a tmpfs"
            raise _directory_error(path, problem)


def _file_system_of(device: int) -> str:
    """Return the type of the file system of a device, "" if it is unknown."""
    numbers = os.major(device), os.minor(device)
    try:
        return next((at.file_system for at in mount_points() if at.device == numbers), "")
    except OSError:
        return ""


def _directory_error(path: Path, problem: str) -> PlatformError:
    return PlatformError(
        f"the lease directory {path} cannot be used: {problem}",
        "Set --lease-dir to a private directory on a tmpfs, such as /run/keyferry.",
        stage=Stage.STORE,
    )


_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HASHER_KEY_FILE = "identities.key"
_HASHER_KEY_BYTES = 32
_log = get_logger("vault")


class LeaseStore:
    """Stores the leases of one provider as records in a `TmpfsDirectory`.

    The directories are opened at the start, but a node may never have a lease. So a problem is
    logged when the first lease is created.

    Args:
        paths: directories, of which the first usable one is used; none to store nothing.

    Attributes:
        identity_hasher: hashes the identities in the keys of leases. Its key is stored in the
            directory, so that the hashes are equal in the next process.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._path: Path | None = None
        self._problems: list[str] = []
        """Why the directories before the one in use are unusable."""
        self._directory: TmpfsDirectory | None = None
        self._boot_id = ""
        self._warned = False
        self.identity_hasher = IdentityHasher(token_bytes(_HASHER_KEY_BYTES))

    def load(self, now: float) -> list[Lease]:
        """Open the directory and return the valid leases of an earlier process.

        Leases with the same token share one `VaultToken`. Without a usable directory, nothing is
        stored.

        Args:
            now: current time in seconds of the monotonic clock.
        """
        for path in self._paths:
            directory = None
            try:
                self._boot_id = _BOOT_ID.read_text().strip()
                directory = TmpfsDirectory(path)
                self.identity_hasher = IdentityHasher(_load_or_create_hasher_key(directory))
                records = self._load_records(directory, now)
            except PlatformError as error:
                self._problems.append(error.problem)
            except OSError as error:
                self._problems.append(f"{path}: {error.strerror or type(error).__name__}")
            else:
                self._directory, self._path = directory, path
                return self._unexpired(records, now)
            if directory is not None:
                directory.close()
        return []

    def save(self, lease: Lease) -> None:
        """Write the record of a lease. A failure is logged once."""
        if self._directory is None or self._problems:
            self._report_problems()
        if self._directory is None:
            return
        try:
            self._directory.write(_record_name(lease), encode_record(lease, boot_id=self._boot_id))
        except OSError as error:
            self._log_failure(error)
        else:
            self._warned = False

    def delete(self, lease: Lease) -> None:
        """Delete the record of a lease."""
        if self._directory is not None:
            self._directory.remove(_record_name(lease))

    def close(self) -> None:
        """Close the directory. The records remain."""
        if self._directory is not None:
            self._directory.close()
            self._directory = None

    def _load_records(self, directory: TmpfsDirectory, now: float) -> list[Lease]:
        leases = []
        for name in directory.names():
            if name == _HASHER_KEY_FILE:
                continue
            try:
                lease = decode_record(directory.read(name), boot_id=self._boot_id, now=now)
                if _record_name(lease) != name:
                    raise UnusableRecordError("its name does not match its content")
            except (OSError, UnusableRecordError) as error:
                decoded = isinstance(error, UnusableRecordError)
                reason = str(error) if decoded else "it cannot be read"
                _log.warning("unusable lease record deleted", file=name, reason=reason)
                directory.remove(name)
            else:
                leases.append(lease)
        return leases

    def _unexpired(self, leases: list[Lease], now: float) -> list[Lease]:
        tokens: dict[tuple[str, str], VaultToken] = {}
        valid = []
        for lease in leases:
            if lease.expires_at <= now:
                self.delete(lease)
                _log.warning(
                    "lease expired before this process started; the next refresh of the volume "
                    "gets a new secret",
                    vault=lease.key.vault,
                    path=lease.path,
                )
                continue
            if lease.id:
                token_key = (lease.key.vault, lease.result.token.value)
                token = tokens.setdefault(token_key, lease.result.token)
                lease.result = replace(lease.result, token=token)
            valid.append(lease)
        return valid

    def _report_problems(self) -> None:
        """Log once, with the first lease, that leases are lost sooner than they need to be."""
        reasons = {"problem": "; ".join(self._problems)} if self._problems else {}
        if self._directory is None:
            _log.warning_once(
                "leases will not survive a restart",
                **reasons,
                remedy="set --lease-dir to a directory on a tmpfs, such as /run/keyferry",
            )
        else:
            _log.warning_once(
                "leases survive a restart of this container, but not an update of its pod",
                directory=str(self._path),
                **reasons,
            )

    def _log_failure(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "failed to store a lease; it will not survive a restart",
                directory=str(self._path),
                error=error.strerror or type(error).__name__,
            )


def _load_or_create_hasher_key(directory: TmpfsDirectory) -> bytes:
    """Return the key in the directory; create it if there is no usable one."""
    with suppress(FileNotFoundError, PermissionError, UnusableFileError):
        key = directory.read(_HASHER_KEY_FILE)
        if len(key) == _HASHER_KEY_BYTES:
            return key
    key = token_bytes(_HASHER_KEY_BYTES)
    directory.write(_HASHER_KEY_FILE, key)
    return key


def _record_name(lease: Lease) -> str:
    key = lease.key
    parts = (key.vault, key.identity.mode, *key.identity.digest, "", *key.resource)
    return sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()
