"""The data folder of a running emulator: its lock, and the file with its addresses."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from keyferry.errors import PlatformError
from keyferry.formats.private_files import write_private_file
from keyferry_devvault.crypto.development_ca import CA_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTION_FILE = "connection.json"
_LOCK_FILE = "lock"


@dataclass(frozen=True, slots=True)
class BoundAddresses:
    """The addresses on which an emulator listens, each as (address, port)."""

    https: tuple[str, int]
    http: tuple[str, int]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder for the duration of the block.

    The kernel releases the lock even if the process is killed.

    Raises:
        PlatformError: another process has locked it.
    """
    with _lock_file(folder) as descriptor:
        if not _try_lock(descriptor):
            raise PlatformError(
                f"a development vault is already running with its data in {folder}",
                "Use that one, or choose another folder with --data.",
            )
        yield


def is_running(folder: Path) -> bool:
    """Return whether an emulator is running with the data folder `folder`."""
    if not (folder / _LOCK_FILE).exists():
        return False
    with _lock_file(folder) as descriptor:
        return not _try_lock(descriptor)


@contextmanager
def connection_file(folder: Path, addresses: BoundAddresses) -> Iterator[None]:
    """Provide `connection.json` in the folder for the duration of the block.

    It replaces a file that a killed process left.
    """
    path = folder / CONNECTION_FILE
    content = {
        "https": format_address(addresses.https),
        "http": format_address(addresses.http),
        "ca": CA_FILE,
    }
    write_private_file(path, msgspec.json.encode(content))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _lock_file(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def format_address(endpoint: tuple[str, int]) -> str:
    """Return `ADDRESS:PORT`, as in URLs."""
    address, port = endpoint
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
