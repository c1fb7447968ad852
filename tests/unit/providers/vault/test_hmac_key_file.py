"""load_or_create_key: all processes share one private key file, and unsafe files are rejected."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keyferry.errors import PlatformError
from keyferry.providers.vault.hmac_key import load_or_create_key


def test_key_file_is_created_once_and_private(tmp_path: Path) -> None:
    """Missing directories are created. No other file remains in the directory."""
    path = tmp_path / "plugin" / "vault-hmac.key"
    first = load_or_create_key(path)
    assert 32 == len(first)
    assert first == load_or_create_key(path)
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)
    assert [path] == list(path.parent.iterdir())
    assert first != load_or_create_key(tmp_path / "other.key")


def test_concurrent_processes_get_the_same_key(tmp_path: Path) -> None:
    """For example an old and a new driver during an upgrade."""
    for number in range(20):
        path = tmp_path / f"{number}.key"
        with ThreadPoolExecutor(8) as pool:
            assert 1 == len(set(pool.map(load_or_create_key, [path] * 8)))


def a_link(path: Path) -> None:
    (path.parent / "real").write_bytes(b"k" * 32)
    (path.parent / "real").chmod(0o600)
    path.symlink_to("real")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def a_folder(path: Path) -> None:
    path.mkdir(mode=0o700)


def readable_by_others(path: Path) -> None:
    path.write_bytes(b"k" * 32)
    path.chmod(0o604)


def readable_by_a_group(path: Path) -> None:
    path.write_bytes(b"k" * 32)
    path.chmod(0o640)


def too_short(path: Path) -> None:
    path.touch(mode=0o600)


def too_long(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_bytes(b"k" * 33)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_link, "it is a symbolic link"),
        (a_dangling_link, "it is a symbolic link"),
        (a_pipe, "it is not a regular file"),
        (a_folder, "it is not a regular file"),
        (readable_by_others, "it is accessible to other users"),
        (readable_by_a_group, "it is accessible to other users"),
        (too_short, "it is smaller than 32 bytes"),
        (too_long, "it is larger than 32 bytes"),
    ],
)
def test_unsafe_file_is_rejected_and_unchanged(make: object, said: str, tmp_path: Path) -> None:
    """The message names the file, the problem and the remedy."""
    path = tmp_path / "vault-hmac.key"
    assert callable(make)
    make(path)
    before = facts_of(path)
    with pytest.raises(PlatformError, match=said) as caught:
        load_or_create_key(path)
    assert str(path) in str(caught.value)
    assert "Delete the file" in caught.value.remedy
    assert before == facts_of(path)
    assert not (tmp_path / "nowhere").exists()


def facts_of(path: Path) -> tuple[int, ...]:
    """Return the attributes of a file except its access time, which reading may change."""
    found = path.lstat()
    return found.st_ino, found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns


def somebody_elses(path: Path) -> Path:
    """Return a file of another user. Only root can create one; others use a file of root."""
    if os.geteuid() != 0:
        return Path("/etc/passwd")
    load_or_create_key(path)
    os.chown(path, 12345, -1)
    return path


def test_file_of_another_user_is_rejected(tmp_path: Path) -> None:
    path = somebody_elses(tmp_path / "vault-hmac.key")
    with pytest.raises(PlatformError, match="belongs to another user"):
        load_or_create_key(path)


def test_directory_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """Nothing is written."""
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match="Not a directory"):
        load_or_create_key(tmp_path / "file" / "vault-hmac.key")
