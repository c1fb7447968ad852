"""Looks at paths that a user named: every failure is an error in one line."""

from __future__ import annotations

import os
import stat
from enum import Enum
from typing import TYPE_CHECKING

from keyferry.errors import RequestInvalidError, SettingInvalidError

if TYPE_CHECKING:
    from pathlib import Path


class PathKind(Enum):
    """What is at a path; symbolic links are followed."""

    MISSING = "does not exist"
    FILE = "is a file"
    FOLDER = "is a folder"
    OTHER = "is neither a file nor a folder"


def path_kind(path: Path) -> PathKind:
    """Return what is at `path`.

    Raises:
        RequestInvalidError: this user may not look, or the path is invalid.
    """
    try:
        return _kind(path)
    except OSError as error:
        raise RequestInvalidError(
            f"{path} cannot be read: {error.strerror}",
            "Name another path, or run the command as a user who may read it.",
        ) from error


def visible_kind(path: Path) -> PathKind:
    """Return what is at `path`; MISSING also if this user may not look."""
    try:
        return _kind(path)
    except OSError:
        return PathKind.MISSING


def check_data_folder(path: Path, *, flag: str) -> None:
    """Check that the folder that `flag` names exists, and that this process may use it.

    Raises:
        SettingInvalidError: it does not, or may not.
    """
    try:
        kind = _kind(path)
        problem = None if kind is PathKind.FOLDER else kind.value
        if kind is PathKind.MISSING and path.is_symlink():
            problem = "is a symbolic link to nothing"
        if problem is None and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            problem = "may not be read and written by this process"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    if problem is not None:
        raise SettingInvalidError(
            f"the folder of {flag} cannot be used: {path} {problem}",
            f"Create the folder, or set {flag} to one that this process may read and write.",
        )


def _kind(path: Path) -> PathKind:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return PathKind.MISSING
    if stat.S_ISDIR(mode):
        return PathKind.FOLDER
    return PathKind.FILE if stat.S_ISREG(mode) else PathKind.OTHER
