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

from keyferry.errors import PlatformError
from keyferry.providers.vault.leases.lease_folder import TmpfsDirectory
from keyferry.providers.vault.leases.record import UnusableRecordError, decode_record, encode_record
from keyferry.resilience.cache_key import IdentityHasher
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.leases.lease import Lease

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
    with suppress(FileNotFoundError, PermissionError):
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
