"""Reads volumes as a pod does, and checks their layout without the code under test."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from keyferry.content import SecretFile

TIMESTAMPED_DIR = re.compile(r"\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+")

Content = dict[str, tuple[int, bytes]]
"""The mode and content of every file of a volume, by path."""


def content(*files: SecretFile) -> Content:
    """Return the content of a volume with these files."""
    return {file.path: (file.mode, file.contents) for file in files}


def read_current(root: Path) -> Content:
    """Return the content behind `..data`; nothing may write meanwhile."""
    return read_tree(root / current_dir(root))


def read_consistent(root: Path) -> Content:
    """Return the content behind `..data` while a writer replaces it.

    A set is complete if `..data` still points to it after it was read.
    """
    while True:
        shown = current_dir(root)
        try:
            found = read_tree(root / shown)
        except FileNotFoundError:
            continue
        if current_dir(root) == shown:
            return found


def current_dir(root: Path) -> str:
    """Return the name of the folder that `..data` points to."""
    return str((root / "..data").readlink())


def read_tree(folder: Path) -> Content:
    """Return every file below a folder."""
    found = {}
    for parent, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = Path(parent, name)
            mode = stat.S_IMODE(path.lstat().st_mode)
            found[path.relative_to(folder).as_posix()] = (mode, path.read_bytes())
    return found


def read_through_links(root: Path) -> dict[str, bytes]:
    """Return what a pod sees: all names without a leading `..`."""
    found = {}
    for entry in root.iterdir():
        if entry.name.startswith(".."):
            continue
        for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            if path.is_file():
                found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def layout_problems(root: Path) -> list[str]:
    """Return the differences between a folder and upstream's layout.

    Source: docs/reference/upstream-driver.md#volume-layout
    """
    shown = current_dir(root)
    problems = [] if TIMESTAMPED_DIR.fullmatch(shown) else [f"..data leads to {shown}"]
    tops = {path.split("/")[0] for path in read_tree(root / shown)}
    for entry in root.iterdir():
        if entry.name in ("..data", shown):
            continue
        if entry.name not in tops:
            problems.append(f"{entry.name} is left over")
        elif not entry.is_symlink() or str(entry.readlink()) != f"..data/{entry.name}":
            problems.append(f"{entry.name} is no link into ..data")
        tops.discard(entry.name)
    problems += [f"{top} has no link" for top in sorted(tops)]
    folders = [root / shown, *(p for p in (root / shown).rglob("*") if p.is_dir())]
    for folder in folders:
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode != 0o755:
            problems.append(f"{folder.name} has mode {mode:o}")
    return problems


def _raise(error: OSError) -> None:
    raise error
