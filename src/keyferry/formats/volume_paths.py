"""The rules for a file path inside a volume. [pure]

Three rules are Keyferry extensions. The path `.` is rejected, because upstream accepts it and then
empties the mount. A NUL byte is rejected before, instead of while the files are written. The number
of nested folders is limited.

Source: docs/reference/upstream-driver.md#file-paths
"""

from __future__ import annotations

import posixpath
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MAX_PATH_BYTES = 4096
MAX_ELEMENT_BYTES = 255
MAX_FOLDERS = 32
"""Folders above a file, so that every program that reads or removes a volume can."""
MAX_FILES = 4096
"""Files of one volume."""
MAX_ENTRIES = 2 * MAX_FILES
"""Files and folders of one volume; each takes a kilobyte of the kernel's memory."""


def path_problem(path: str) -> str | None:  # noqa: PLR0911 - a list of rules
    """Why `path` cannot be a file of a volume, as the end of the sentence "the path ...".

    None when it can.
    """
    if not path:
        return "is empty"
    if problem := _character_problem(path):
        return problem
    if path.startswith("/"):
        return "is absolute; it must be relative to the volume"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    elements = path.split("/")
    if len(elements) > MAX_FOLDERS + 1:
        return f"is in more than {MAX_FOLDERS} nested folders"
    if ".." in elements:
        return "leads out of the volume with '..'"
    if any(len(element.encode()) > MAX_ELEMENT_BYTES for element in elements):
        return f"has an element longer than {MAX_ELEMENT_BYTES} bytes"
    if elements[0].startswith(".."):
        return "begins with '..', which the volume keeps for itself"
    if path == "." or posixpath.normpath(path) != path:
        return "is not in its shortest form (no '.', '//', './' or trailing '/')"
    return None


def _character_problem(path: str) -> str | None:
    if "\0" in path:
        return "holds a NUL byte"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "holds half of a UTF-16 pair, which is not a character"
    return None


def count_problem(paths: Collection[str]) -> str | None:
    """Why one volume cannot hold that many files, as the end of "the SecretProviderClass ...".

    None when it can.
    """
    if len(paths) > MAX_FILES:
        return f"asks for {len(paths)} files; a volume has at most {MAX_FILES}"
    entries = _count_entries(paths)
    if entries > MAX_ENTRIES:
        return f"asks for {entries} files and folders; a volume has at most {MAX_ENTRIES}"
    return None


def _count_entries(paths: Collection[str]) -> int:
    """Count files and folders without a text for each folder, which may take 100 MB."""
    count = 0
    previous: list[str] = []
    for elements in sorted(path.split("/") for path in set(paths)):
        pairs = zip(elements[:-1], previous[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        count += len(elements) - shared
        previous = elements
    return count


def path_conflict(paths: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two paths that conflict in one volume, or None.

    They are equal, or one is a folder of the other.
    """
    seen: set[str] = set()
    for path in sorted(paths):
        if path in seen:
            return path, path
        for parent in _parents(path):
            if parent in seen:
                return parent, path
        seen.add(path)
    return None


def _parents(path: str) -> list[str]:
    elements = path.split("/")
    return ["/".join(elements[:count]) for count in range(1, len(elements))]
