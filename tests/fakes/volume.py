"""Reads a volume as a pod does, and as somebody who distrusts whoever wrote it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from keyferry.content import SecretFile

TIMESTAMPED_DIR = re.compile(r"\.\.\d{4}_\d\d_\d\d_\d\d_\d\d_\d\d\.\d+")

Content = dict[str, tuple[int, bytes]]
"""Every file of a volume: its mode and its bytes, by path."""


def content(*files: SecretFile) -> Content:
    """What a volume of these files holds."""
    return {file.path: (file.mode, file.contents) for file in files}


def read_current(root: Path) -> Content:
    """Everything behind `..data`, while nobody writes."""
    return read_tree(root / current_dir(root))


def read_consistent(root: Path) -> Content:
    """The same while sets are being replaced.

    A set that is still shown after it was read was not being removed meanwhile.
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
    """The folder that `..data` shows."""
    return str((root / "..data").readlink())


def read_tree(folder: Path) -> Content:
    """Every file below a real folder."""
    found = {}
    for parent, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = Path(parent, name)
            mode = stat.S_IMODE(path.lstat().st_mode)
            found[path.relative_to(folder).as_posix()] = (mode, path.read_bytes())
    return found


def read_through_links(root: Path) -> dict[str, bytes]:
    """What a pod sees that knows nothing of the layout: names without a leading '..'."""
    found = {}
    for entry in root.iterdir():
        if entry.name.startswith(".."):
            continue
        for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            if path.is_file():
                found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def layout_problems(root: Path) -> list[str]:
    """How the folder differs from upstream's layout; nothing when it is it.

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
