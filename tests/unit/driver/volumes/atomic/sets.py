"""Sets of files, and what a volume must hold after one was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keyferry.content import SecretFile
from tests.fakes.volume import content, layout_problems, read_current, read_through_links


def file(path: str, text: str = "x", mode: int = 0o644) -> SecretFile:
    """One file."""
    return SecretFile(path, mode, text.encode())


def check(root: Path, *files: SecretFile) -> None:
    """The volume holds exactly these files, in exactly the layout."""
    assert content(*files) == read_current(root)
    assert {f.path: f.contents for f in files} == read_through_links(root)
    assert [] == layout_problems(root)


def entries() -> Iterator[tuple[str, bool, bool]]:
    """Yield what can be at a root: kind, whether Keyferry wrote it, whether a provider did."""
    yield "nothing", True, False
    yield "stamp", True, False
    yield "link into data", True, False
    yield "data link", True, False
    yield "file", False, True
    yield "folder", False, True
    yield "link elsewhere", False, False
    yield "dotted file", False, False
