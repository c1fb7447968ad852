from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from keyferry.errors import PlatformError
from keyferry_devvault.storage import database
from keyferry_devvault.storage.data import DevVaultData
from keyferry_devvault.storage.database import Database
from keyferry_devvault.storage.signing_keys import SigningKeyName


def test_everything_in_the_folder_is_private(tmp_path: Path) -> None:
    """The folder is 0700 and its files are 0600, even when the folder was there before."""
    folder = tmp_path / "dev"
    folder.mkdir(mode=0o755)
    with DevVaultData(folder) as dev:
        dev.secrets.set("kv1", "db", "x")
        assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert "devvault.sqlite3" in modes
    assert {0o600} == set(modes.values())


def test_folder_of_another_program_is_not_changed(tmp_path: Path) -> None:
    """It is neither closed to its users nor filled with secrets."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "notes").touch()
    with pytest.raises(
        PlatformError, match="contains other files and is accessible to other users"
    ):
        DevVaultData(folder)
    assert 0o755 == stat.S_IMODE(folder.stat().st_mode)
    assert ["notes"] == [path.name for path in folder.iterdir()]


def test_what_one_connection_writes_another_reads_at_once(tmp_path: Path) -> None:
    """The command line changes a vault that is running; cached reads notice."""
    with DevVaultData(tmp_path) as one, DevVaultData(tmp_path) as two:
        one.secrets.set("kv1", "db", "a")
        assert two.secrets.get("kv1", "db").value == "a"
        one.secrets.set("kv1", "db", "b")
        assert two.secrets.get("kv1", "db").value == "b"
        two.secrets.delete("kv1", "db")
        assert two.secrets.find("kv1", "db") is None
        assert one.secrets.find("kv1", "db") is None


def test_the_data_outlive_the_process(tmp_path: Path) -> None:
    """Secrets and signing keys are those of the last time."""
    with DevVaultData(tmp_path) as dev:
        row = dev.secrets.set("kv1", "db", "a")
        key = dev.signing_keys.public_jwks(SigningKeyName.ENTRA)
    with DevVaultData(tmp_path) as dev:
        assert row == dev.secrets.get("kv1", "db")
        assert key == dev.signing_keys.public_jwks(SigningKeyName.ENTRA)


def test_two_openers_agree_on_a_signing_key(tmp_path: Path) -> None:
    """The first process creates it."""
    with DevVaultData(tmp_path) as one, DevVaultData(tmp_path) as two:
        keys = {one.signing_keys.public_jwks(name).keys[0].kid for name in SigningKeyName}
        assert keys == {two.signing_keys.public_jwks(name).keys[0].kid for name in SigningKeyName}
        assert 2 == len(keys)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """A transaction is undone when its body raises, and the connection stays usable."""
    with DevVaultData(tmp_path) as dev:
        dev.vaults.ensure("kv1")
    data = Database(tmp_path / "devvault.sqlite3")

    def write(*statements: str) -> None:
        with data.write() as connection:
            for statement in statements:
                connection.execute(statement)

    with pytest.raises(PlatformError, match="cannot be used"):
        write("DELETE FROM vault", "nonsense")
    write("INSERT INTO vault (name, created) VALUES ('kv2', 0)")
    data.close()
    with DevVaultData(tmp_path) as dev:
        assert ("kv1", "kv2") == dev.vaults.names()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """The message names the file and what to do."""
    (tmp_path / "devvault.sqlite3").write_bytes(b"hello" * 1000)
    with pytest.raises(PlatformError, match=r"devvault.sqlite3 cannot be used: .*--data"):
        DevVaultData(tmp_path)


def test_data_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    """They are not touched."""
    DevVaultData(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "devvault.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(PlatformError, match="written by a newer version"):
        DevVaultData(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file is at its path."""
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match=r"the data folder .* cannot be used"):
        DevVaultData(tmp_path / "file" / "dev")


def test_data_of_the_first_version_are_read_on(tmp_path: Path) -> None:
    """Secrets stay, and keys and certificates have their tables."""
    folder = tmp_path / "old"
    folder.mkdir(mode=0o700)
    connection = sqlite3.connect(folder / "devvault.sqlite3")
    connection.executescript(database._FIRST_SCHEMA)
    connection.execute("INSERT INTO vault VALUES ('shop', NULL, 1)")
    connection.execute(
        "INSERT INTO secret_version VALUES (1, 'shop', 'db', 'v1', 'x', NULL, NULL, 1, 1, 1, 2, 3)"
    )
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with DevVaultData(folder) as data:
        row = data.secrets.get("shop", "db")
        assert ("x", 2, 3, False) == (row.value, row.expires, row.not_before, row.of_certificate)
        assert () == data.vault_keys.latest("shop")
