"""Paths that a user named: whatever is there, one line says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.cli.flags.paths import PathKind, check_data_folder, path_kind, visible_kind
from keyferry.errors import RequestInvalidError, SettingInvalidError

TOO_LONG = "x" * 300
"""A name that no file system has; root meets it too, other than a missing permission."""


def test_kinds_follow_links(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    kinds = {
        "file": PathKind.FILE,
        "link": PathKind.FILE,
        ".": PathKind.FOLDER,
        "none": PathKind.MISSING,
        "none/below": PathKind.MISSING,
        "file/below": PathKind.MISSING,
        "dangling": PathKind.MISSING,
    }
    assert kinds == {name: path_kind(tmp_path / name) for name in kinds}
    assert PathKind.OTHER is path_kind(Path("/dev/null"))


def test_a_path_that_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / TOO_LONG, tmp_path / "loop"):
        with pytest.raises(RequestInvalidError, match="cannot be read: "):
            path_kind(path)
        assert PathKind.MISSING is visible_kind(path)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("none", "does not exist"),
        ("file", "is a file"),
        ("dangling", "is a symbolic link to nothing"),
        (TOO_LONG, "cannot be read: File name too long"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(SettingInvalidError, match=f"folder of --x cannot be used: .*{problem}"):
        check_data_folder(tmp_path / name, flag="--x")
    check_data_folder(tmp_path, flag="--x")
