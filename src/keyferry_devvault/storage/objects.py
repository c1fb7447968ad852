"""The keys and certificates of all vaults, with all their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from keyferry.errors import ObjectNotFoundError, ObjectUnusableError, RequestInvalidError
from keyferry.records import replace
from keyferry_devvault.model import SECRET_NAME, DeletedObject, ObjectKind, VaultObjectVersion
from keyferry_devvault.storage.secrets import RECOVERABLE_DAYS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    from keyferry_devvault.command_hints import CommandHints
    from keyferry_devvault.storage.database import Database
    from keyferry_devvault.storage.vaults import VaultTable

_COLUMNS = "kind, vault, name, version, document, enabled, created, updated"


class ObjectTable:
    """The table of objects of one kind. Names are not case-sensitive.

    Args:
        database: the database; a vault must exist before objects are stored in it.
        wall_time: returns Unix time.
        kind: the kind of the objects.
        vaults: the vaults.
        hints: writes the commands of errors.
    """

    def __init__(
        self,
        database: Database,
        wall_time: Callable[[], float],
        kind: ObjectKind,
        *,
        vaults: VaultTable,
        hints: CommandHints,
    ) -> None:
        self._database = database
        self._wall_time = wall_time
        self._vaults = vaults
        self._hints = hints
        self.kind = kind

    def put(
        self,
        vault: str,
        name: str,
        version: str,
        document: Mapping[str, str],
        *,
        enabled: bool = True,
    ) -> VaultObjectVersion:
        """Store a new version, which becomes the latest.

        Raises:
            RequestInvalidError: the name is invalid.
            ObjectUnusableError: a deleted object of this name can still be recovered.
        """
        check_object_name(name, self.kind)
        if self.find_deleted(vault, name) is not None:
            raise ObjectUnusableError(
                f"{self.kind.singular} {name!r} of vault {vault!r} is deleted but recoverable",
                f"Recover it: {self._line('delete', vault, name, '--recover')}; or purge it: "
                f"{self._line('delete', vault, name, '--purge')}",
            )
        now = int(self._wall_time())
        row = VaultObjectVersion(
            self.kind, vault.lower(), name, version, document, enabled, created=now, updated=now
        )
        with self._database.write() as connection:
            connection.execute(
                f"INSERT INTO object_version ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608
                _to_columns(row),
            )
        return row

    def find(self, vault: str, name: str, version: str | None = None) -> VaultObjectVersion | None:
        """Return this version, or the latest one; None if it does not exist or is deleted."""
        versions = self.versions(vault, name)
        if version is None:
            return versions[-1] if versions else None
        return next((row for row in versions if row.version == version.lower()), None)

    def get(self, vault: str, name: str, version: str | None = None) -> VaultObjectVersion:
        """Return this version, or the latest one.

        Raises:
            ObjectNotFoundError: the vault or the version does not exist, or is deleted.
        """
        if row := self.find(vault, name, version):
            return row
        self._vaults.require(vault)
        noun = self.kind.singular
        if self.find_deleted(vault, name):
            raise ObjectNotFoundError(
                f"{noun} {name!r} of vault {vault!r} is deleted",
                f"Recover it: {self._line('delete', vault, name, '--recover')}",
            )
        what = f"version {version!r} of {noun} {name!r}" if version else f"{noun} {name!r}"
        words = (vault, name) if self.find(vault, name) else (vault,)
        raise ObjectNotFoundError(
            f"vault {vault!r} has no {what}",
            f"List what exists: {self._line('list', *words)}",
        )

    def _line(self, *words: str) -> str:
        """Return a command of `keyferry devvault key` or `cert`."""
        return self._hints.line("key" if self.kind is ObjectKind.KEY else "cert", *words)

    def versions(self, vault: str, name: str) -> tuple[VaultObjectVersion, ...]:
        """Return all versions, oldest first; none if the object is deleted."""
        if self.find_deleted(vault, name) is not None:
            return ()
        return self._all_versions(vault, name)

    def latest(self, vault: str) -> tuple[VaultObjectVersion, ...]:
        """Return the latest version of each object of a vault that is not deleted, by name."""

        def load(connection: sqlite3.Connection) -> tuple[VaultObjectVersion, ...]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM object_version WHERE serial IN"  # noqa: S608
                " (SELECT max(serial) FROM object_version WHERE kind = ? AND vault = ?"
                " GROUP BY name) AND name NOT IN"
                " (SELECT name FROM deleted_object WHERE kind = ? AND vault = ?) ORDER BY name",
                (self.kind, vault.lower()) * 2,
            )
            return tuple(_from_columns(values) for values in rows)

        return self._database.read(("latest", self.kind, vault.lower()), load)

    def set_enabled(
        self, vault: str, name: str, version: str | None = None, *, enabled: bool = True
    ) -> VaultObjectVersion:
        """Enable or disable one version (or the latest) and return it.

        Raises:
            ObjectNotFoundError: there is no such version.
        """
        old = self.get(vault, name, version)
        new = replace(old, enabled=enabled, updated=int(self._wall_time()))
        with self._database.write() as connection:
            connection.execute(
                "UPDATE object_version SET enabled = ?, updated = ?"
                " WHERE kind = ? AND vault = ? AND name = ? AND version = ?",
                (int(enabled), new.updated, self.kind, old.vault, old.name, old.version),
            )
        return new

    def update_document(
        self, vault: str, name: str, version: str, changes: Mapping[str, str]
    ) -> VaultObjectVersion:
        """Update the document of one version with `changes`, and return the version.

        Raises:
            ObjectNotFoundError: there is no such version.
        """
        old = self.get(vault, name, version)
        new = replace(old, document={**old.document, **changes}, updated=int(self._wall_time()))
        with self._database.write() as connection:
            connection.execute(
                "UPDATE object_version SET document = ?, updated = ?"
                " WHERE kind = ? AND vault = ? AND name = ? AND version = ?",
                (_encode_document(new), new.updated, self.kind, old.vault, old.name, old.version),
            )
        return new

    def delete(self, vault: str, name: str) -> DeletedObject:
        """Hide the object; it can be recovered until it is purged.

        Raises:
            ObjectNotFoundError: there is no such object.
        """
        row, now = self.get(vault, name), int(self._wall_time())
        deleted = DeletedObject(row, now, now + RECOVERABLE_DAYS * 86_400)
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO deleted_object VALUES (?, ?, ?, ?, ?)",
                (self.kind, row.vault, row.name, deleted.deleted_at, deleted.purge_at),
            )
        return deleted

    def deleted(self, vault: str) -> tuple[DeletedObject, ...]:
        """Return the deleted objects of a vault, by name."""

        def load(connection: sqlite3.Connection) -> tuple[tuple[str, int, int], ...]:
            rows = connection.execute(
                "SELECT name, deleted, purge FROM deleted_object"
                " WHERE kind = ? AND vault = ? ORDER BY name",
                (self.kind, vault.lower()),
            )
            return tuple(rows)

        times = self._database.read(("deleted", self.kind, vault.lower()), load)
        return tuple(
            DeletedObject(self._all_versions(vault, name)[-1], deleted, purge)
            for name, deleted, purge in times
        )

    def find_deleted(self, vault: str, name: str) -> DeletedObject | None:
        """Return the deleted object of this name, if there is one."""
        rows = self.deleted(vault)
        return next((row for row in rows if row.latest.name.lower() == name.lower()), None)

    def recover(self, vault: str, name: str) -> None:
        """Undo `delete`. An object that is not deleted stays unchanged."""
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM deleted_object WHERE kind = ? AND vault = ? AND name = ?",
                (self.kind, vault.lower(), name),
            )

    def purge(self, vault: str, name: str) -> None:
        """Remove a deleted object with all its versions. Other objects stay unchanged."""
        if self.find_deleted(vault, name) is None:
            return
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM object_version WHERE kind = ? AND vault = ? AND name = ?",
                (self.kind, vault.lower(), name),
            )
        self.recover(vault, name)

    def _all_versions(self, vault: str, name: str) -> tuple[VaultObjectVersion, ...]:
        def load(connection: sqlite3.Connection) -> tuple[VaultObjectVersion, ...]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM object_version"  # noqa: S608
                " WHERE kind = ? AND vault = ? AND name = ? ORDER BY serial",
                (self.kind, vault.lower(), name),
            )
            return tuple(_from_columns(values) for values in rows)

        return self._database.read(("versions", self.kind, vault.lower(), name.lower()), load)


def check_object_name(name: str, kind: ObjectKind) -> None:
    """Check the name of an object.

    Raises:
        RequestInvalidError: it is invalid.
    """
    if not SECRET_NAME.fullmatch(name):
        raise RequestInvalidError(
            f"{name!r} cannot be the name of a {kind.singular}",
            "It has 1 to 127 letters, digits and hyphens.",
        )


def _to_columns(row: VaultObjectVersion) -> tuple[object, ...]:
    """Return the fields in the order of `_COLUMNS`."""
    identity = (row.kind, row.vault, row.name, row.version)
    return (*identity, _encode_document(row), int(row.enabled), row.created, row.updated)


def _encode_document(row: VaultObjectVersion) -> str:
    return msgspec.json.encode(dict(row.document)).decode()


def _from_columns(values: tuple[Any, ...]) -> VaultObjectVersion:
    kind, vault, name, version, document, enabled, created, updated = values
    parsed = msgspec.json.decode(document, type=dict[str, str])
    return VaultObjectVersion(
        ObjectKind(kind), vault, name, version, parsed, bool(enabled), created, updated
    )
