"""keyferry.driver.volumes.atomic_writer: a reader sees the old set or the new one, never a mix."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.content import SecretFile
from keyferry.driver.volumes.atomic_writer import NO_CHANGES, FileChanges, is_written, write_volume
from keyferry.errors import FilesInvalidError, VolumeError
from keyferry.formats.volume_paths import path_conflict
from tests.fakes.volume import Content, content, current_dir, read_consistent
from tests.unit.driver.volumes.atomic.sets import check, file

# --- the layout -----------------------------------------------------------------------------------


def test_files_lie_in_a_stamped_folder_behind_one_swapped_link(root: Path) -> None:
    """The layout that upstream writes, names and link targets included."""
    files = (file("a"), file("d/e"), file("d/f/g"))
    assert FileChanges(added=("a", "d/e", "d/f/g")) == write_volume(root, files)
    check(root, *files)
    assert {"..data", "a", "d", current_dir(root)} == {entry.name for entry in root.iterdir()}
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
    assert NO_CHANGES == write_volume(root, (file("d/a", "new", mode=0o440),))


def test_bits_beyond_the_permissions_are_dropped(root: Path) -> None:
    """A provider cannot have a set-user-id file made."""
    write_volume(root, (file("a", mode=0o4755),))
    assert 0o755 == stat.S_IMODE((root / "a").stat().st_mode)
    assert NO_CHANGES == write_volume(root, (file("a", mode=0o4755),))


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
    assert NO_CHANGES == write_volume(root, files)
    assert not NO_CHANGES
    assert before == stamps(root)


@pytest.mark.parametrize(
    ("old", "new", "written"),
    [
        ((file("a", "1"),), (file("a", "2"),), FileChanges(changed=("a",))),
        ((file("a"),), (file("a", mode=0o600),), FileChanges(changed=("a",))),
        ((file("a"), file("b")), (file("a"),), FileChanges(removed=("b",))),
        ((file("d/a"), file("d/b")), (file("d/a"),), FileChanges(removed=("d/b",))),
        ((file("d/a"), file("b")), (file("b"),), FileChanges(removed=("d/a",))),
        ((file("a"),), (file("a/b"),), FileChanges(added=("a/b",), removed=("a",))),
        ((file("a/b"),), (file("a"),), FileChanges(added=("a",), removed=("a/b",))),
        ((file("a/b"),), (file("a/b/c"),), FileChanges(added=("a/b/c",), removed=("a/b",))),
        ((file("a"),), (file("b"),), FileChanges(added=("b",), removed=("a",))),
        ((file("a"),), (file("a"), file("b")), FileChanges(added=("b",))),
    ],
)
def test_a_new_set_replaces_the_old_one_whole(
    root: Path, old: tuple[SecretFile, ...], new: tuple[SecretFile, ...], written: FileChanges
) -> None:
    """Content, mode, removal, nesting, a file that becomes a folder and back."""
    write_volume(root, old)
    assert written == write_volume(root, new)
    assert written
    check(root, *new)


def test_an_empty_set_empties_the_volume(root: Path) -> None:
    """No file is a set of files, too."""
    write_volume(root, (file("a"),))
    assert FileChanges(removed=("a",)) == write_volume(root, ())
    check(root)


def test_the_first_write_counts_even_when_it_is_empty(root: Path) -> None:
    """A volume of no files is written, not forgotten."""
    assert NO_CHANGES == write_volume(root, ())
    assert is_written(root)


names = st.sampled_from(["a", "b", "c/a", "c/b", "c", "b/x/y", ".h"])


sets = st.lists(
    st.builds(SecretFile, names, st.sampled_from([0o600, 0o644]), st.binary(max_size=3)),
    max_size=5,
).filter(lambda files: path_conflict(f.path for f in files) is None)


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
            seen.append(read_consistent(root))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        number = 0
        while number < 100 or len(seen) <= 50:
            write_volume(root, sets[number % len(sets)])
            number += 1
    finally:
        over.set()
        reader.join()
    assert [] == [found for found in seen if found not in expected]
