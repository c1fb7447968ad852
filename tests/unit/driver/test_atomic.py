"""keyferry.driver.atomic: a reader sees the old set or the new one, never a mix."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.contract import SecretFile
from keyferry.driver.atomic import (
    NOTHING_WRITTEN,
    Written,
    holds_foreign_files,
    is_written,
    looks_like_volume,
    read_volume,
    write_volume,
)
from keyferry.errors import FilesInvalidError, VolumeError
from keyferry.paths import path_clash
from tests.fakes.killed_writer import SCENARIOS
from tests.fakes.volume import (
    Content,
    content,
    current,
    layout_problems,
    read_below,
    read_once,
    read_through_links,
    read_whole,
)


def file(path: str, text: str = "x", mode: int = 0o644) -> SecretFile:
    """One file."""
    return SecretFile(path, mode, text.encode())


def check(root: Path, *files: SecretFile) -> None:
    """The volume holds exactly these files, in exactly the layout."""
    assert content(*files) == read_once(root)
    assert {f.path: f.contents for f in files} == read_through_links(root)
    assert [] == layout_problems(root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty volume."""
    made = tmp_path / "volume"
    made.mkdir()
    return made


# --- the layout -----------------------------------------------------------------------------------


def test_files_lie_in_a_stamped_folder_behind_one_swapped_link(root: Path) -> None:
    """The layout that upstream writes, names and link targets included."""
    files = (file("a"), file("d/e"), file("d/f/g"))
    assert Written(added=("a", "d/e", "d/f/g")) == write_volume(root, files)
    check(root, *files)
    assert {"..data", "a", "d", current(root)} == {entry.name for entry in root.iterdir()}
    assert "..data/d" == str((root / "d").readlink())


@pytest.mark.parametrize("mode", [0, 0o400, 0o440, 0o644, 0o777])
@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_file_has_exactly_the_mode_asked_for(root: Path, mode: int, umask: int) -> None:
    """Whatever the umask of the process, and mode 0 stays 0."""
    before = os.umask(umask)
    try:
        write_volume(root, (file("d/a", mode=mode),))
    finally:
        os.umask(before)
    assert mode == stat.S_IMODE((root / "d/a").stat().st_mode)
    assert 0o755 == stat.S_IMODE((root / "..data/d").stat().st_mode)
    assert 0o755 == stat.S_IMODE((root / "..data/").stat().st_mode)


def test_what_is_written_belongs_to_the_group_of_the_root(root: Path) -> None:
    """A container that is not root can read it from the moment of the swap; the mode stays."""
    group = os.getgid() or 5678
    os.chown(root, -1, group)
    root.chmod(0o2755)
    for text in ("old", "new"):
        write_volume(root, (file("d/a", text, mode=0o440),))
        assert (group, 0o440) == (
            (root / "d/a").stat().st_gid,
            stat.S_IMODE((root / "d/a").stat().st_mode),
        )
        for folder in (root / "..data/d", root / "..data/"):
            assert (group, 0o2755) == (folder.stat().st_gid, stat.S_IMODE(folder.stat().st_mode))
    assert NOTHING_WRITTEN == write_volume(root, (file("d/a", "new", mode=0o440),))


def test_bits_beyond_the_permissions_are_dropped(root: Path) -> None:
    """A provider cannot have a set-user-id file made."""
    write_volume(root, (file("a", mode=0o4755),))
    assert 0o755 == stat.S_IMODE((root / "a").stat().st_mode)
    assert NOTHING_WRITTEN == write_volume(root, (file("a", mode=0o4755),))


def test_any_bytes_are_written_as_they_are(root: Path) -> None:
    """Empty, binary and larger than a buffer."""
    files = tuple(
        SecretFile(name, 0o600, contents)
        for name, contents in (("e", b""), ("b", bytes(range(256))), ("l", b"\0" * 300_000))
    )
    write_volume(root, files)
    check(root, *files)


# --- what a write changes -------------------------------------------------------------------------


def stamps(root: Path) -> list[tuple[str, int, int]]:
    """Name, inode and time of everything in the volume, the root included."""
    entries = [root, *sorted(root.rglob("*"))]
    return [(str(e), e.lstat().st_ino, e.lstat().st_mtime_ns) for e in entries]


def test_an_unchanged_set_touches_nothing(root: Path) -> None:
    """No inode and no time changes, so watchers of the volume stay asleep."""
    files = (file("a"), file("d/e"))
    write_volume(root, files)
    before = stamps(root)
    assert NOTHING_WRITTEN == write_volume(root, files)
    assert not NOTHING_WRITTEN
    assert before == stamps(root)


@pytest.mark.parametrize(
    ("old", "new", "written"),
    [
        ((file("a", "1"),), (file("a", "2"),), Written(changed=("a",))),
        ((file("a"),), (file("a", mode=0o600),), Written(changed=("a",))),
        ((file("a"), file("b")), (file("a"),), Written(removed=("b",))),
        ((file("d/a"), file("d/b")), (file("d/a"),), Written(removed=("d/b",))),
        ((file("d/a"), file("b")), (file("b"),), Written(removed=("d/a",))),
        ((file("a"),), (file("a/b"),), Written(added=("a/b",), removed=("a",))),
        ((file("a/b"),), (file("a"),), Written(added=("a",), removed=("a/b",))),
        ((file("a/b"),), (file("a/b/c"),), Written(added=("a/b/c",), removed=("a/b",))),
        ((file("a"),), (file("b"),), Written(added=("b",), removed=("a",))),
        ((file("a"),), (file("a"), file("b")), Written(added=("b",))),
    ],
)
def test_a_new_set_replaces_the_old_one_whole(
    root: Path, old: tuple[SecretFile, ...], new: tuple[SecretFile, ...], written: Written
) -> None:
    """Content, mode, removal, nesting, a file that becomes a folder and back."""
    write_volume(root, old)
    assert written == write_volume(root, new)
    assert written
    check(root, *new)


def test_an_empty_set_empties_the_volume(root: Path) -> None:
    """No file is a set of files, too."""
    write_volume(root, (file("a"),))
    assert Written(removed=("a",)) == write_volume(root, ())
    check(root)


def test_the_first_write_counts_even_when_it_is_empty(root: Path) -> None:
    """A volume of no files is written, not forgotten."""
    assert NOTHING_WRITTEN == write_volume(root, ())
    assert is_written(root)


names = st.sampled_from(["a", "b", "c/a", "c/b", "c", "b/x/y", ".h"])
sets = st.lists(
    st.builds(SecretFile, names, st.sampled_from([0o600, 0o644]), st.binary(max_size=3)),
    max_size=5,
).filter(lambda files: path_clash(f.path for f in files) is None)


@settings(deadline=None, max_examples=60)
@given(st.lists(sets, min_size=1, max_size=6))
def test_after_any_sequence_of_sets_exactly_the_last_one_is_there(
    sequence: list[list[SecretFile]],
) -> None:
    """What was there before leaves no trace, whatever it was."""
    with TemporaryDirectory() as folder:
        for files in sequence:
            write_volume(Path(folder), files)
            check(Path(folder), *files)


# --- what cannot be written -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", ".", "..", "../a", "/a", "..data", "a/./b", "a\0", "a" * 256])
def test_an_impossible_path_is_refused_before_anything_is_written(root: Path, path: str) -> None:
    """One bad path among good ones leaves the volume as it was; `.` does not empty it."""
    write_volume(root, (file("kept"),))
    before = stamps(root)
    with pytest.raises(FilesInvalidError, match="invalid filepath") as caught:
        write_volume(root, (file("good"), file(path)))
    assert "Correct the name or alias" in str(caught.value)
    assert "FileWriteError" == caught.value.reason
    assert before == stamps(root)


@pytest.mark.parametrize(
    ("paths", "words"),
    [(("a", "a"), "two objects are written to 'a'"), (("a", "a/b"), "both a file and the folder")],
)
def test_two_objects_in_one_place_are_refused(
    root: Path, paths: tuple[str, str], words: str
) -> None:
    """Instead of one of them winning by chance."""
    with pytest.raises(FilesInvalidError, match=words):
        write_volume(root, tuple(file(path) for path in paths))
    assert [] == list(root.iterdir())


def test_a_root_that_is_gone_is_an_error_of_the_volume(tmp_path: Path) -> None:
    """The system's reason is told, and what to look at."""
    with pytest.raises(VolumeError, match=r"cannot write the files of .*No such file"):
        write_volume(tmp_path / "gone", (file("a"),))


def test_a_failed_write_leaves_the_old_set_whole_and_no_half_one(root: Path) -> None:
    """Where the links cannot be swapped, the new folder is taken away again."""
    old = file("a", "old")
    write_volume(root, (old,))
    (root / "..data_tmp").mkdir()
    with pytest.raises(VolumeError, match="cannot write the files"):
        write_volume(root, (file("a", "new"),))
    (root / "..data_tmp").rmdir()
    check(root, old)


# --- what a killed process, or another writer, left behind ----------------------------------------


@pytest.mark.parametrize("unchanged", [True, False])
def test_what_a_killed_writer_left_is_mended(root: Path, unchanged: bool) -> None:
    """A stray ..data_tmp, a half-written folder, a missing link and a link too many."""
    files = (file("a", "1"), file("b/c", "1"))
    write_volume(root, files)
    (root / "..data_tmp").symlink_to("..2020_01_01_00_00_00.1")
    half = root / "..2020_01_01_00_00_00.1"
    half.mkdir()
    (half / "a").write_text("half")
    (root / "b").unlink()
    (root / "gone").symlink_to("..data/gone")
    new = files if unchanged else (file("a", "2"), file("b/c", "2"))
    write_volume(root, new)
    check(root, *new)


def test_a_data_link_that_leads_nowhere_is_replaced(root: Path) -> None:
    """The folder behind it was lost; the next write is a first one."""
    (root / "..data").symlink_to("..2020_01_01_00_00_00.1")
    assert not is_written(root)
    write_volume(root, (file("a"),))
    check(root, file("a"))


@pytest.mark.parametrize("goal", ["/etc", "../outside", "a", "..data_tmp"])
def test_a_data_link_out_of_the_layout_is_not_followed(root: Path, goal: str) -> None:
    """Whoever planted it can make us neither read nor remove what it leads to."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    (root / "..data").symlink_to(goal)
    assert not is_written(root)
    write_volume(root, (file("a"),))
    check(root, file("a"))
    assert "kept" == (outside / "precious").read_text()


def test_files_of_a_provider_of_the_old_style_give_way(root: Path) -> None:
    """Regular files and folders that stand where links belong are replaced."""
    (root / "a").write_text("legacy")
    (root / "d").mkdir()
    (root / "d" / "e").write_text("legacy")
    write_volume(root, (file("a"), file("d/e")))
    check(root, file("a"), file("d/e"))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_something_else_in_the_place_of_a_link_gives_way_though_nothing_changed(
    root: Path, kind: str
) -> None:
    """The set is the same, but the pod would not see it."""
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
def test_a_writer_killed_at_any_point_leaves_one_whole_set(tmp_path: Path, scenario: str) -> None:
    """At every line and every call into the file system: old or new, and the next write mends."""
    command = [sys.executable, "-m", "tests.fakes.killed_writer", str(tmp_path), scenario]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    deaths = int(done.stdout)
    assert deaths > 20
    before, after = SCENARIOS[scenario]
    for number in range(deaths + 1):
        root = tmp_path / str(number)
        if before is None and not is_written(root):
            assert not holds_foreign_files(root)
        else:
            assert read_once(root) in [content(*(before or after)), content(*after)]
        assert looks_like_volume(root)
        third = (*after, file("third"))
        write_volume(root, after if number % 2 else third)
        check(root, *(after if number % 2 else third))


# --- readers --------------------------------------------------------------------------------------


def test_a_reader_never_sees_a_mix(root: Path) -> None:
    """While hundreds of sets are swapped, each reading is one of them, whole and with its modes."""
    sets = [
        tuple(file(f"{'d/' * (n % 3)}f{i}", f"{n}", 0o600 + n) for i in range(6)) for n in range(8)
    ]
    expected = [content(*files) for files in sets]
    write_volume(root, sets[0])
    seen: list[Content] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(read_whole(root))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(400):
            write_volume(root, sets[number % len(sets)])
    finally:
        over.set()
        reader.join()
    assert len(seen) > 50
    assert [] == [found for found in seen if found not in expected]


# --- what stands there ----------------------------------------------------------------------------


def test_what_an_old_style_provider_wrote_is_read_as_the_pod_sees_it(root: Path) -> None:
    """Plain files, nested ones, and its own layout of links with a folder behind one."""
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


def test_what_was_written_is_read_back(root: Path) -> None:
    """Secrets can be made from a volume whose provider was not asked."""
    files = (file("a", "1", 0o600), file("d/e", "2"))
    write_volume(root, files)
    assert files == read_volume(root)


def test_a_link_of_a_provider_out_of_the_volume_is_not_read(root: Path) -> None:
    """A Secret never holds a file of the node."""
    (root / "host").symlink_to("/etc/hostname")
    (root / "etc").symlink_to("/etc")
    (root / "nowhere").symlink_to("..data/nowhere")
    (root / "own").write_text("x")
    assert ["own"] == [found.path for found in read_volume(root)]


def test_a_volume_that_is_gone_cannot_be_read(tmp_path: Path) -> None:
    """The message names the volume."""
    with pytest.raises(VolumeError, match="cannot read the files of"):
        read_volume(tmp_path / "gone")


def entries() -> Iterator[tuple[str, bool, bool]]:
    """What may stand at a root: its kind, whether it is ours, whether a provider's."""
    yield "nothing", True, False
    yield "stamp", True, False
    yield "link into data", True, False
    yield "data link", True, False
    yield "file", False, True
    yield "folder", False, True
    yield "link elsewhere", False, False
    yield "dotted file", False, False


@pytest.mark.parametrize(("kind", "ours", "foreign"), list(entries()))
def test_what_is_ours_and_what_is_not_is_told_apart(
    root: Path, kind: str, ours: bool, foreign: bool
) -> None:
    """A folder with anything but the layout is not a volume, and never emptied."""
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
    assert (ours, foreign) == (looks_like_volume(root), holds_foreign_files(root))


def test_reading_below_a_folder_sees_modes_and_bytes(tmp_path: Path) -> None:
    """The tests' own reader is worth its salt."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o641)
    assert {"a": (0o641, b"x")} == read_below(tmp_path)
