"""The SQLite database of an emulator, with a cache of reads."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar, cast

from keyferry.errors import PlatformError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from pathlib import Path

T = TypeVar("T")

_MAX_CACHED_READS = 20_000
_BUSY_SECONDS = 5.0

_FIRST_SCHEMA = """
CREATE TABLE home_tenant (
    id INTEGER PRIMARY KEY CHECK (id = 1), tenant TEXT NOT NULL);
CREATE TABLE vault (
    name TEXT PRIMARY KEY, tenant TEXT, created INTEGER NOT NULL);
CREATE TABLE secret_version (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    vault TEXT NOT NULL REFERENCES vault, name TEXT NOT NULL COLLATE NOCASE, version TEXT NOT NULL,
    value TEXT NOT NULL, content_type TEXT, tags TEXT, enabled INTEGER NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL, expires INTEGER, not_before INTEGER,
    UNIQUE (vault, name, version));
CREATE TABLE deleted_secret (
    vault TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE,
    deleted INTEGER NOT NULL, purge INTEGER NOT NULL,
    PRIMARY KEY (vault, name));
CREATE TABLE policy (
    vault TEXT NOT NULL REFERENCES vault, client_id TEXT NOT NULL REFERENCES identity,
    permission TEXT NOT NULL,
    PRIMARY KEY (vault, client_id, permission));
CREATE TABLE identity (
    client_id TEXT PRIMARY KEY, tenant TEXT, kind TEXT NOT NULL, secret_digest BLOB);
CREATE TABLE federation (
    client_id TEXT NOT NULL REFERENCES identity,
    issuer TEXT NOT NULL, subject TEXT NOT NULL, audience TEXT NOT NULL,
    PRIMARY KEY (client_id, issuer, subject, audience));
CREATE TABLE issuer (
    url TEXT PRIMARY KEY, jwks TEXT NOT NULL);
CREATE TABLE signing_key (
    name TEXT PRIMARY KEY, pem TEXT NOT NULL);
CREATE TABLE tuning (
    name TEXT PRIMARY KEY, value REAL);
CREATE TABLE fault (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    match TEXT NOT NULL, kind TEXT NOT NULL,
    status INTEGER, retry_after INTEGER, remaining INTEGER);
"""
_SECOND_SCHEMA = """
ALTER TABLE secret_version ADD COLUMN of_certificate INTEGER NOT NULL DEFAULT 0;
CREATE TABLE object_version (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, vault TEXT NOT NULL REFERENCES vault,
    name TEXT NOT NULL COLLATE NOCASE, version TEXT NOT NULL,
    document TEXT NOT NULL, enabled INTEGER NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL,
    UNIQUE (kind, vault, name, version));
CREATE TABLE deleted_object (
    kind TEXT NOT NULL, vault TEXT NOT NULL, name TEXT NOT NULL COLLATE NOCASE,
    deleted INTEGER NOT NULL, purge INTEGER NOT NULL,
    PRIMARY KEY (kind, vault, name));
"""
_THIRD_SCHEMA = """
ALTER TABLE fault ADD COLUMN code TEXT NOT NULL DEFAULT '';
"""
_MIGRATIONS = (_FIRST_SCHEMA, _SECOND_SCHEMA, _THIRD_SCHEMA)
"""What each version of the data adds to the one before it."""


class Database:
    """One connection to the database. Several processes may have one; readers never block.

    Not for use by several threads at once.
    """

    def __init__(self, path: Path) -> None:
        """Open the database in `path`, and create it with mode 0600 if it is missing.

        Raises:
            PlatformError: the file cannot be opened, is not a database, or is of a newer version.
        """
        self._path = path
        self._cache: dict[Hashable, object] = {}
        self._cached_state = -1
        try:
            with suppress(FileExistsError):
                # Never an existing file: to close it would release the locks by which SQLite knows
                # that another connection of this process uses it.
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._storage_error(error) from error
        try:
            self._migrate()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection. Nothing may be called afterwards."""
        self._connection.close()

    def read(self, key: Hashable, load: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of `load`, or its cached result for `key` if nothing was written since.

        Args:
            key: identifies the read: name and arguments of the query.
            load: runs the query. Must return something immutable.
        """
        with self._translate_errors():
            (state,) = self._connection.execute("PRAGMA data_version").fetchone()
            if state != self._cached_state or len(self._cache) > _MAX_CACHED_READS:
                self._cache.clear()
                self._cached_state = state
            if key not in self._cache:
                self._cache[key] = load(self._connection)
            return cast("T", self._cache[key])

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction, which is rolled back if the block raises."""
        # The connection's own writes do not move its data_version.
        self._cache.clear()
        with self._translate_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _migrate(self) -> None:
        with self._translate_errors():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
        with self.write() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise PlatformError(
                    f"{self._path} was written by a newer version of Keyferry",
                    "Upgrade Keyferry, or choose another folder with --data.",
                )
            if version == len(_MIGRATIONS):
                return
            for schema in _MIGRATIONS[version:]:
                for statement in filter(str.strip, schema.split(";")):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._storage_error(error) from error

    def _storage_error(self, error: Exception) -> PlatformError:
        return PlatformError(
            f"the data of the development vault in {self._path} cannot be used: {error}",
            "Check that the folder is yours and has room, or choose another one with --data.",
            stage=Stage.REQUEST,
        )
