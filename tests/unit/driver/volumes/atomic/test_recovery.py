"""Atomic writer: existing files of a killed writer, or of another program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from keyferry.driver.volumes.atomic_writer import (
    has_provider_written_files,
    is_written,
    looks_like_volume,
    read_volume,
    write_volume,
)
from keyferry.errors import VolumeError
from tests.fakes.killed_writer import SCENARIOS
from tests.fakes.volume import content, read_current, read_tree
from tests.unit.driver.volumes.atomic.sets import check, entries, file

# --- what a killed process, or another writer, left behind ----------------------------------------


@pytest.mark.parametrize("unchanged", [True, False])
def test_leftovers_of_a_killed_writer_are_repaired(root: Path, unchanged: bool) -> None:
    """A stray ..data_tmp, a half-written folder, a missing link and an extra link."""
    files = (file("a", "1"), file("b/c", "1"))
    write_volume(root, files)
    (root / "..data_tmp").symlink_to("..2020_01_01_00_00_00.1")
    half = root / "..2020_01_01_00_00_00.1"
    half.mkdir()
    (half / "a").write_text("half")
    (root / "b").unlink()
    (root / "removed").symlink_to("..data/removed")
    new = files if unchanged else (file("a", "2"), file("b/c", "2"))
    write_volume(root, new)
    check(root, *new)


def test_dangling_data_link_is_replaced(root: Path) -> None:
    """Its folder was lost; the next write is a first one."""
    (root / "..data").symlink_to("..2020_01_01_00_00_00.1")
    assert not is_written(root)
    write_volume(root, (file("a"),))
    check(root, file("a"))


@pytest.mark.parametrize("goal", ["/etc", "../outside", "a", "..data_tmp"])
def test_data_link_that_leaves_the_layout_is_not_followed(root: Path, goal: str) -> None:
    """Its destination is neither read nor removed."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    (root / "..data").symlink_to(goal)
    assert not is_written(root)
    write_volume(root, (file("a"),))
    check(root, file("a"))
    assert "kept" == (outside / "precious").read_text()


def test_files_of_a_legacy_provider_are_replaced(root: Path) -> None:
    """Files and folders at the paths of links."""
    (root / "a").write_text("legacy")
    (root / "d").mkdir()
    (root / "d" / "e").write_text("legacy")
    write_volume(root, (file("a"), file("d/e")))
    check(root, file("a"), file("d/e"))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_wrong_entry_is_replaced_by_a_link_without_changed_files(root: Path, kind: str) -> None:
    """The pod would not see the content."""
    write_volume(root, (file("a"),))
    (root / "a").unlink()
    match kind:
        case "file":
            (root / "a").write_text("planted")
        case "folder":
            (root / "a").mkdir()
        case _:
            (root / "a").symlink_to("/etc/hostname")
    write_volume(root, (file("a"),))
    check(root, file("a"))


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_writer_killed_at_any_point_leaves_complete_content(tmp_path: Path, scenario: str) -> None:
    """The old or the new content, and the next write repairs the rest."""
    command = [sys.executable, "-m", "tests.fakes.killed_writer", str(tmp_path), scenario]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    deaths = int(done.stdout)
    before, after = SCENARIOS[scenario]
    # An unchanged set is not written, so that a kill leaves only one state.
    assert deaths == 1 if before == after else deaths > 20
    for number in range(deaths + 1):
        root = tmp_path / str(number)
        if before is None and not is_written(root):
            assert not has_provider_written_files(root)
        else:
            assert read_current(root) in [content(*(before or after)), content(*after)]
        assert looks_like_volume(root)
        third = (*after, file("third"))
        write_volume(root, after if number % 2 else third)
        check(root, *(after if number % 2 else third))


# --- existing files ---


def test_files_of_a_legacy_provider_are_read(root: Path) -> None:
    """Plain and nested files, and its own layout of links."""
    (root / "plain").write_text("p")
    (root / "d").mkdir()
    (root / "d" / "nested").write_text("n")
    (root / "..stamp" / "dir").mkdir(parents=True)
    (root / "..stamp" / "a").write_text("a")
    (root / "..stamp" / "dir" / "b").write_text("b")
    (root / "..data").symlink_to("..stamp")
    (root / "a").symlink_to("..data/a")
    (root / "dir").symlink_to("..data/dir")
    found = {found.path: found.contents for found in read_volume(root)}
    assert {"plain": b"p", "d/nested": b"n", "a": b"a", "dir/b": b"b"} == found


def test_written_files_are_read_back(root: Path) -> None:
    """A Secret can be made without a provider call."""
    files = (file("a", "1", 0o600), file("d/e", "2"))
    write_volume(root, files)
    assert files == read_volume(root)


def test_link_out_of_the_volume_is_not_read(root: Path) -> None:
    """A Secret never contains a file of the node."""
    (root / "host").symlink_to("/etc/hostname")
    (root / "etc").symlink_to("/etc")
    (root / "nowhere").symlink_to("..data/nowhere")
    (root / "own").write_text("x")
    assert ["own"] == [found.path for found in read_volume(root)]


def test_missing_volume_cannot_be_read(tmp_path: Path) -> None:
    """The message names the volume."""
    with pytest.raises(VolumeError, match="cannot read the files of"):
        read_volume(tmp_path / "removed")


@pytest.mark.parametrize(("kind", "managed", "foreign"), list(entries()))
def test_only_our_layout_looks_like_a_volume(
    root: Path, kind: str, managed: bool, foreign: bool
) -> None:
    """A folder with other entries is never emptied."""
    match kind:
        case "stamp":
            (root / "..2020_01_01_00_00_00.1").mkdir()
        case "link into data":
            (root / "a").symlink_to("..data/a")
        case "data link":
            (root / "..data").symlink_to("..2020_01_01_00_00_00.1")
        case "file":
            (root / "a").write_text("x")
        case "folder":
            (root / "a").mkdir()
        case "link elsewhere":
            (root / "a").symlink_to("/etc")
        case "dotted file":
            (root / "..x").write_text("x")
        case _:
            pass
    assert (managed, foreign) == (looks_like_volume(root), has_provider_written_files(root))


def test_reader_of_these_tests_returns_modes_and_bytes(tmp_path: Path) -> None:
    """It is used by the other tests."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o641)
    assert {"a": (0o641, b"x")} == read_tree(tmp_path)
