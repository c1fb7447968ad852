"""The secrets of all vaults, with all their versions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict

from keyferry.errors import ObjectNotFoundError, ObjectUnusableError, RequestInvalidError
from keyferry.records import replace
from keyferry_devvault.model import (
    MAX_VALUE_BYTES,
    SECRET_NAME,
    DeletedSecret,
    SecretAttributes,
    SecretVersion,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from keyferry_devvault.command_hints import CommandHints
    from keyferry_devvault.storage.database import Database
    from keyferry_devvault.storage.vaults import VaultTable

RECOVERABLE_DAYS = 90
_COLUMNS = (
    "vault, name, version, value, content_type, tags, enabled,"
    " created, updated, expires, not_before, of_certificate"
)


class SecretTable:
    """The table of secrets. Names of vaults and secrets are not case-sensitive."""

    def __init__(
        self,
        database: Database,
        wall_time: Callable[[], float],
        vaults: VaultTable,
        hints: CommandHints,
    ) -> None:
        self._database = database
        self._wall_time = wall_time
        self._vaults = vaults
        self._hints = hints

    def set(
        self,
        vault: str,
        name: str,
        value: str,
        attributes: SecretAttributes | None = None,
        *,
        certificate_version: str | None = None,
    ) -> SecretVersion:
        """Store a new version, which becomes the latest, and create the vault if it is missing.

        Args:
            vault: name of the vault.
            name: name of the secret.
            value: value of the version.
            attributes: attributes of the version.
            certificate_version: the certificate version of the secret; None for none.

        Raises:
            RequestInvalidError: a name is invalid, or the value is longer than 25 KiB.
            ObjectUnusableError: a deleted secret of this name can still be recovered.
        """
        _check_secret(name, value)
        self._vaults.ensure(vault)
        if self.find_deleted(vault, name) is not None:
            raise ObjectUnusableError(
                f"secret {name!r} of vault {vault!r} is deleted but recoverable",
                f"Recover it: {self._hints.line('delete', vault, name, '--recover')}; or purge it: "
                f"{self._hints.line('delete', vault, name, '--purge')}",
            )
        attributes, now = attributes or SecretAttributes(), int(self._wall_time())
        row = SecretVersion(
            vault=vault.lower(),
            name=name,
            version=certificate_version or secrets.token_hex(16),
            value=value,
            content_type=attributes.content_type,
            tags=attributes.tags,
            enabled=attributes.enabled is not False,
            created=now,
            updated=now,
            expires=attributes.expires,
            not_before=attributes.not_before,
            of_certificate=certificate_version is not None,
        )
        with self._database.write() as connection:
            connection.execute(
                f"INSERT INTO secret_version ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608
                _to_columns(row),
            )
        return row

    def find(self, vault: str, name: str, version: str | None = None) -> SecretVersion | None:
        """Return this version, or the latest one; None if it does not exist or is deleted."""
        versions = self.versions(vault, name)
        if version is None:
            return versions[-1] if versions else None
        return next((row for row in versions if row.version == version.lower()), None)

    def get(self, vault: str, name: str, version: str | None = None) -> SecretVersion:
        """Return this version, or the latest one.

        Raises:
            ObjectNotFoundError: the vault or the version does not exist, or is deleted.
        """
        if row := self.find(vault, name, version):
            return row
        self._vaults.require(vault)
        if self.find_deleted(vault, name):
            raise ObjectNotFoundError(
                f"secret {name!r} of vault {vault!r} is deleted",
                f"Recover it: {self._hints.line('delete', vault, name, '--recover')}",
            )
        what = f"version {version!r} of secret {name!r}" if version else f"secret {name!r}"
        words = (vault, name) if self.find(vault, name) else (vault,)
        raise ObjectNotFoundError(
            f"vault {vault!r} has no {what}",
            f"List what exists: {self._hints.line('list', *words)}",
        )

    def versions(self, vault: str, name: str) -> tuple[SecretVersion, ...]:
        """Return all versions, oldest first; none if the secret is deleted."""

        def load(connection: sqlite3.Connection) -> tuple[SecretVersion, ...]:
            deleted = connection.execute(
                "SELECT 1 FROM deleted_secret WHERE vault = ? AND name = ?", (vault.lower(), name)
            ).fetchone()
            return () if deleted else self._all_versions(connection, vault, name)

        return self._database.read(("versions", vault.lower(), name.lower()), load)

    def latest(self, vault: str) -> tuple[SecretVersion, ...]:
        """Return the latest version of each secret of a vault that is not deleted, by name."""

        def load(connection: sqlite3.Connection) -> tuple[SecretVersion, ...]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM secret_version WHERE serial IN"  # noqa: S608
                " (SELECT max(serial) FROM secret_version WHERE vault = ? GROUP BY name)"
                " AND name NOT IN (SELECT name FROM deleted_secret WHERE vault = ?) ORDER BY name",
                (vault.lower(), vault.lower()),
            )
            return tuple(_from_columns(values) for values in rows)

        return self._database.read(("latest", vault.lower()), load)

    def update(
        self, vault: str, name: str, version: str | None, attributes: SecretAttributes
    ) -> SecretVersion:
        """Set `attributes` of one version (or of the latest) and return the version.

        Raises:
            ObjectNotFoundError: there is no such version.
        """
        old = self.get(vault, name, version)
        new = replace(old, updated=int(self._wall_time()), **_changed_fields(attributes))
        with self._database.write() as connection:
            connection.execute(
                "UPDATE secret_version SET content_type = ?, tags = ?, enabled = ?, updated = ?,"
                " expires = ?, not_before = ? WHERE vault = ? AND name = ? AND version = ?",
                (*_to_columns(new)[4:7], *_to_columns(new)[8:11], old.vault, old.name, old.version),
            )
        return new

    def delete(self, vault: str, name: str) -> DeletedSecret:
        """Hide the secret; it can be recovered until it is purged.

        Raises:
            ObjectNotFoundError: there is no such secret.
        """
        row, now = self.get(vault, name), int(self._wall_time())
        deleted = DeletedSecret(row, now, now + RECOVERABLE_DAYS * 86_400)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO deleted_secret VALUES (?, ?, ?, ?)",
                (row.vault, row.name, deleted.deleted_at, deleted.purge_at),
            )
        return deleted

    def deleted(self, vault: str) -> tuple[DeletedSecret, ...]:
        """Return the deleted secrets of a vault, by name."""

        def load(connection: sqlite3.Connection) -> tuple[DeletedSecret, ...]:
            times = connection.execute(
                "SELECT name, deleted, purge FROM deleted_secret WHERE vault = ? ORDER BY name",
                (vault.lower(),),
            ).fetchall()
            return tuple(
                DeletedSecret(self._all_versions(connection, vault, name)[-1], deleted, purge)
                for name, deleted, purge in times
            )

        return self._database.read(("deleted", vault.lower()), load)

    def find_deleted(self, vault: str, name: str) -> DeletedSecret | None:
        """Return the deleted secret of this name, if there is one."""
        rows = self.deleted(vault)
        return next((row for row in rows if row.latest.name.lower() == name.lower()), None)

    def recover(self, vault: str, name: str) -> None:
        """Undo `delete`. A secret that is not deleted stays unchanged."""
        with self._database.write() as connection:
            _undelete(connection, vault, name)

    def purge(self, vault: str, name: str) -> None:
        """Remove a deleted secret with all its versions. Other secrets stay unchanged."""
        if self.find_deleted(vault, name) is None:
            return
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM secret_version WHERE vault = ? AND name = ?", (vault.lower(), name)
            )
            _undelete(connection, vault, name)

    @staticmethod
    def _all_versions(
        connection: sqlite3.Connection, vault: str, name: str
    ) -> tuple[SecretVersion, ...]:
        query = f"SELECT {_COLUMNS} FROM secret_version WHERE vault = ? AND name = ?"  # noqa: S608
        rows = connection.execute(f"{query} ORDER BY serial", (vault.lower(), name))
        return tuple(_from_columns(values) for values in rows)


def _check_secret(name: str, value: str) -> None:
    if not SECRET_NAME.fullmatch(name):
        raise RequestInvalidError(
            f"{name!r} cannot be the name of a secret",
            "It has 1 to 127 letters, digits and hyphens.",
        )
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise RequestInvalidError(
            f"the value of secret {name!r} is longer than {MAX_VALUE_BYTES} bytes",
            "Store a shorter value; Key Vault has the same limit.",
        )


def _changed_fields(attributes: SecretAttributes) -> dict[str, Any]:
    return {name: value for name, value in asdict(attributes).items() if value is not None}


def _undelete(connection: sqlite3.Connection, vault: str, name: str) -> None:
    connection.execute(
        "DELETE FROM deleted_secret WHERE vault = ? AND name = ?", (vault.lower(), name)
    )


def _to_columns(row: SecretVersion) -> tuple[object, ...]:
    """Return the fields in the order of `_COLUMNS`."""
    tags = None if row.tags is None else msgspec.json.encode(dict(row.tags)).decode()
    return (
        row.vault,
        row.name,
        row.version,
        row.value,
        row.content_type,
        tags,
        int(row.enabled),
        row.created,
        row.updated,
        row.expires,
        row.not_before,
        int(row.of_certificate),
    )


def _from_columns(values: tuple[Any, ...]) -> SecretVersion:
    (vault, name, version, value, content_type, tags, enabled, *times) = values
    created, updated, expires, not_before, of_certificate = times
    return SecretVersion(
        vault,
        name,
        version,
        value,
        content_type,
        None if tags is None else msgspec.json.decode(tags, type=dict[str, str]),
        bool(enabled),
        created,
        updated,
        expires,
        not_before,
        bool(of_certificate),
    )
