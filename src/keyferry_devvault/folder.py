"""The data folder of a running emulator: its lock, and the file with its addresses."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Struct

from keyferry.errors import PlatformError, Stage
from keyferry.formats.private_files import write_private_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTION_FILE = "connection.json"
_PORTS_FILE = "ports.json"
_LOCK_FILE = "lock"
_LOCK_SECONDS = 0.1


class BoundAddresses(Struct, frozen=True):
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
        if not _lock_within(descriptor, _LOCK_SECONDS):
            raise PlatformError(
                f"a development vault is already running with its data in {folder}",
                "Use that one, or choose another folder with --data.",
            )
        yield


def is_running(folder: Path) -> bool:
    """Return whether an emulator is running with the data folder `folder`.

    A connection file proves nothing, because a killed process leaves it. Nothing is created.

    Raises:
        PlatformError: the lock cannot be read.
    """
    try:
        descriptor = os.open(folder / _LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _folder_error(folder, error) from error
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextmanager
def connection_file(folder: Path, addresses: BoundAddresses) -> Iterator[None]:
    """Provide `connection.json` in the folder for the duration of the block.

    It replaces a file that a killed process left.
    """
    from keyferry_devvault.crypto.development_ca import CA_FILE

    path = folder / CONNECTION_FILE
    content = {
        "https": format_address(addresses.https),
        "http": format_address(addresses.http),
        "ca": CA_FILE,
    }
    ports = _Ports(addresses.https[1], addresses.http[1])
    write_private_file(folder / _PORTS_FILE, msgspec.json.encode(ports))
    write_private_file(path, msgspec.json.encode(content))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()


class _ConnectionFile(msgspec.Struct):
    """The content of `connection.json`."""

    https: str
    http: str
    ca: str


def read_connection(folder: Path) -> tuple[BoundAddresses, Path]:
    """Return the addresses in `connection.json`, and the file of the development CA.

    Raises:
        FileNotFoundError: there is no `connection.json`.
        PlatformError: it is malformed, or names an address that is not loopback.
    """
    path = folder / CONNECTION_FILE
    try:
        connection = msgspec.json.decode(path.read_bytes(), type=_ConnectionFile)
        addresses = BoundAddresses(
            _parse_address(connection.https), _parse_address(connection.http)
        )
        return addresses, folder / connection.ca
    except FileNotFoundError:
        raise
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise PlatformError(
            f"{path} cannot be used: {error}",
            "Restart the development vault; it writes this file when it starts.",
            stage=Stage.REQUEST,
        ) from error


def _parse_address(text: str) -> tuple[str, int]:
    """Return (address, port) of `ADDRESS:PORT`.

    Raises:
        ValueError: the address is not a loopback address.
    """
    host, _, port = text.rpartition(":")
    address = host.strip("[]")
    if not ip_address(address).is_loopback:
        raise ValueError(f"{text!r} is not a loopback address")
    return address, int(port)


def last_ports(folder: Path) -> tuple[int, int]:
    """Return the ports of the last emulator with this data folder, or zeros.

    With the same ports, clients of the last emulator go on after a restart.
    """
    try:
        ports = msgspec.json.decode((folder / _PORTS_FILE).read_bytes(), type=_Ports)
    except (OSError, msgspec.DecodeError):
        return 0, 0
    return ports.https, ports.http


class _Ports(msgspec.Struct):
    """The content of `ports.json`."""

    https: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    http: Annotated[int, msgspec.Meta(ge=0, le=65_535)]


@contextmanager
def _lock_file(folder: Path) -> Iterator[int]:
    try:
        descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _folder_error(folder, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_within(descriptor: int, seconds: float) -> bool:
    """Try repeatedly: `is_running` of another process holds the lock for a moment."""
    deadline = time.monotonic() + seconds
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(seconds / 10)
    return True


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder_error(folder: Path, error: OSError) -> PlatformError:
    return PlatformError(
        f"the data folder {folder} of the development vault cannot be used: {error.strerror}",
        "Choose another folder with --data, or run the command as the user of this one.",
        stage=Stage.REQUEST,
    )


def format_address(endpoint: tuple[str, int]) -> str:
    """Return `ADDRESS:PORT`, as in URLs."""
    address, port = endpoint
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
