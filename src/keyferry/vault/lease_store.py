"""Keeps what is held for pods beyond the end of the process, where there is a folder for it.

Without one, or with one that does not do, everything works, but the next process knows nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING

from keyferry.economy.key import Identities
from keyferry.errors import PlatformError
from keyferry.logs import get_logger
from keyferry.vault.lease_folder import LeaseFolder
from keyferry.vault.lease_record import BadRecordError, read_record, write_record

if TYPE_CHECKING:
    from keyferry.vault.grant import Grant
    from keyferry.vault.lease import Lease

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_KEY_FILE = "identities.key"
_KEY_BYTES = 32
_log = get_logger("vault")


class LeaseStore:
    """The records of one provider.

    Args:
        path: of its folder; None for none.

    Attributes:
        identities: those by which leases are kept. With a folder they are the same in the next
            process, because their key lies beside the records.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._folder: LeaseFolder | None = None
        self._boot = ""
        self._said = False
        self.identities = Identities(token_bytes(_KEY_BYTES))

    def open(self, now: float) -> list[Lease]:
        """Begin to keep; returns what an earlier process held and is good still.

        What hangs on one token has one `Grant`.

        Args:
            now: by the clock of the machine.
        """
        if self._path is None:
            return []
        try:
            self._boot = _BOOT_ID.read_text().strip()
            self._folder = LeaseFolder(self._path)
            self.identities = Identities(_identity_key(self._folder))
            found = self._good(self._read(self._folder, now), now)
        except PlatformError as error:
            _log.error(
                "what is held for pods will not survive a restart of this process",
                **error.log_pairs(),
            )
        except OSError as error:
            self._failed(error)
        else:
            return found
        return []

    def put(self, lease: Lease) -> None:
        """Keep a lease as it is now."""
        if self._folder is None:
            if self._path is None and not self._said:
                self._said = True
                _log.info(
                    "what is held for pods will not survive a restart of this process",
                    remedy="let --lease-dir name a folder on a tmpfs, such as /run/keyferry",
                )
            return
        try:
            self._folder.write(_name(lease), write_record(lease, boot=self._boot))
        except OSError as error:
            self._failed(error)
        else:
            self._said = False

    def drop(self, lease: Lease) -> None:
        """It is held no longer."""
        if self._folder is not None:
            self._folder.remove(_name(lease))

    def close(self) -> None:
        """What is kept stays."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _read(self, folder: LeaseFolder, now: float) -> list[Lease]:
        found = []
        for name in folder.names():
            if name == _KEY_FILE:
                continue
            try:
                lease = read_record(folder.read(name), boot=self._boot, now=now)
                if _name(lease) != name:
                    raise BadRecordError("it bears another's name")
            except (OSError, BadRecordError) as error:
                why = str(error) if isinstance(error, BadRecordError) else "it cannot be read"
                _log.warning("a record of a lease is dropped", file=name, why=why)
                folder.remove(name)
            else:
                found.append(lease)
        return found

    def _good(self, leases: list[Lease], now: float) -> list[Lease]:
        grants: dict[tuple[str, str], Grant] = {}
        good = []
        for lease in leases:
            if lease.ends <= now:
                self.drop(lease)
                _log.warning(
                    "a secret ended while nobody renewed it; the next refresh of its volume gets a"
                    " new one",
                    vault=lease.key.vault,
                    path=lease.path,
                )
                continue
            if lease.id:
                place = (lease.key.vault, lease.issued.grant.token)
                grant = grants.setdefault(place, lease.issued.grant)
                lease.issued = replace(lease.issued, grant=grant)
            good.append(lease)
        return good

    def _failed(self, error: OSError) -> None:
        if not self._said:
            self._said = True
            _log.error(
                "a lease could not be kept for the next process",
                folder=str(self._path),
                error=error.strerror or type(error).__name__,
            )


def _identity_key(folder: LeaseFolder) -> bytes:
    """The key in the folder, made where there is none that can be used."""
    with suppress(FileNotFoundError, PermissionError):
        found = folder.read(_KEY_FILE)
        if len(found) == _KEY_BYTES:
            return found
    made = token_bytes(_KEY_BYTES)
    folder.write(_KEY_FILE, made)
    return made


def _name(lease: Lease) -> str:
    key = lease.key
    parts = (key.vault, key.identity.mode, *key.identity.proof, "", *key.item)
    return sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()
