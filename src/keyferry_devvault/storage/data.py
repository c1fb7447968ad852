"""The data of an emulator in its data folder, whether its server is running or not."""

from __future__ import annotations

import stat
import time
from functools import cached_property
from typing import TYPE_CHECKING, Self

from keyferry.errors import PlatformError, Stage
from keyferry_devvault.command_hints import CommandHints
from keyferry_devvault.model import ObjectKind
from keyferry_devvault.storage.database import Database
from keyferry_devvault.storage.faults import FaultInjectionTable
from keyferry_devvault.storage.identities import IdentityTable
from keyferry_devvault.storage.objects import ObjectTable
from keyferry_devvault.storage.policies import PolicyTable
from keyferry_devvault.storage.secrets import SecretTable
from keyferry_devvault.storage.vaults import VaultTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from keyferry_devvault.crypto.certificate_material import Signer
    from keyferry_devvault.storage.certificates import CertificateStore
    from keyferry_devvault.storage.credentials import CredentialTable
    from keyferry_devvault.storage.signing_keys import SigningKeys

_DATABASE = "devvault.sqlite3"


class DevVaultData:
    """The tables of one emulator, for use by one thread.

    What needs `cryptography` is imported on first use: it takes longer than reading a secret.

    Attributes:
        folder: the data folder, with mode 0700.
        hints: writes the commands of errors and of the access log.
        vaults: the names of the vaults.
        secrets: the secrets of all vaults.
        vault_keys: the keys of all vaults.
        certificate_table: the certificates of all vaults, without their keys and secrets.
        identities: identities, federated credentials and issuers.
        policies: the access policies.
        fault_injection: latency, throttling, faults.
    """

    def __init__(
        self,
        folder: Path,
        wall_time: Callable[[], float] = time.time,
        *,
        hints: CommandHints | None = None,
    ) -> None:
        """Open the data in `folder`, and create folder and data if they are missing.

        Args:
            folder: the data folder.
            wall_time: returns Unix time.
            hints: writes the commands of errors; None: with `--data folder`.

        Raises:
            PlatformError: the folder or the data cannot be used.
        """
        _ensure_private_folder(folder)
        self.folder = folder
        self.hints = hints or CommandHints(folder)
        self._database = Database(folder / _DATABASE)
        self.vaults = VaultTable(self._database, wall_time, self.hints)
        self.secrets = SecretTable(self._database, wall_time, self.vaults, self.hints)
        self._wall_time = wall_time
        self.vault_keys, self.certificate_table = (
            ObjectTable(self._database, wall_time, kind, vaults=self.vaults, hints=self.hints)
            for kind in (ObjectKind.KEY, ObjectKind.CERTIFICATE)
        )
        self.identities = IdentityTable(self._database, self.hints)
        self.policies = PolicyTable(self._database, self.identities, self.vaults)
        self.fault_injection = FaultInjectionTable(self._database)

    @cached_property
    def certificates(self) -> CertificateStore:
        """The certificates of all vaults, with their keys and secrets."""
        from keyferry_devvault.storage.certificates import CertificateStore

        return CertificateStore(
            self.secrets,
            self.vault_keys,
            self.certificate_table,
            signer=self._ca_signer,
            wall_time=self._wall_time,
        )

    @cached_property
    def credentials(self) -> CredentialTable:
        """The certificates of apps, and the pods of managed identities."""
        from keyferry_devvault.storage.credentials import CredentialTable

        return CredentialTable(self._database, self.identities)

    @cached_property
    def signing_keys(self) -> SigningKeys:
        """The keys that sign tokens."""
        from keyferry_devvault.storage.signing_keys import SigningKeys

        return SigningKeys(self._database)

    def close(self) -> None:
        """Close the database. Nothing may be called afterwards."""
        self._database.close()

    def _ca_signer(self) -> Signer:
        from keyferry_devvault.crypto.certificate_material import Signer
        from keyferry_devvault.crypto.development_ca import load_or_create_ca

        authority = load_or_create_ca(self.folder)
        return Signer(authority.certificate, authority.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def has_data(folder: Path) -> bool:
    """Return whether `folder` contains the data of an emulator. Nothing is created.

    Raises:
        PlatformError: the folder cannot be read.
    """
    try:
        return stat.S_ISREG((folder / _DATABASE).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _folder_error(folder, error) from error


def _folder_error(folder: Path, error: OSError) -> PlatformError:
    return PlatformError(
        f"the data folder {folder} of the development vault cannot be used: {error.strerror}",
        "Choose another folder with --data.",
        stage=Stage.REQUEST,
    )


def _ensure_private_folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        # A folder that is something else already must not be closed to its other users.
        if (folder / _DATABASE).exists() or not any(folder.iterdir()):
            folder.chmod(0o700)
            return
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as error:
        raise _folder_error(folder, error) from error
    if mode & 0o077:
        raise PlatformError(
            f"the folder {folder} contains other files and is accessible to other users",
            "Choose another folder with --data; a new folder is created with mode 0700.",
        )
