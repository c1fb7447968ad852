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


def test_files_are_in_a_timestamped_folder_behind_one_link(root: Path) -> None:
    """The layout of upstream, including names and link targets."""
    files = (file("a"), file("d/e"), file("d/f/g"))
    assert FileChanges(added=("a", "d/e", "d/f/g")) == write_volume(root, files)
    check(root, *files)
    assert {"..data", "a", "d", current_dir(root)} == {entry.name for entry in root.iterdir()}
    assert "..data/d" == str((root / "d").readlink())


@pytest.mark.parametrize("mode", [0, 0o400, 0o440, 0o644, 0o777])
@pytest.mark.parametrize("umask", [0, 0o077])
def test_file_has_the_requested_mode(root: Path, mode: int, umask: int) -> None:
    """Whatever the umask; mode 0 stays 0."""
    before = os.umask(umask)
    try:
        write_volume(root, (file("d/a", mode=mode),))
    finally:
        os.umask(before)
    assert mode == stat.S_IMODE((root / "d/a").stat().st_mode)
    assert 0o755 == stat.S_IMODE((root / "..data/d").stat().st_mode)
    assert 0o755 == stat.S_IMODE((root / "..data/").stat().st_mode)


def test_files_belong_to_the_group_of_the_root(root: Path) -> None:
    """From the rename on, with unchanged modes."""
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


def test_content_is_written_verbatim(root: Path) -> None:
    """Empty, binary, and larger than a buffer."""
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


def test_unchanged_files_are_not_written(root: Path) -> None:
    """No inode and no time changes, so file watchers are not notified."""
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
def test_new_files_replace_the_old_ones(
    root: Path, old: tuple[SecretFile, ...], new: tuple[SecretFile, ...], written: FileChanges
) -> None:
    """Content, mode, removal, nesting, a file that becomes a folder and back."""
    write_volume(root, old)
    assert written == write_volume(root, new)
    assert written
    check(root, *new)


def test_empty_list_removes_all_files(root: Path) -> None:
    """It is valid content."""
    write_volume(root, (file("a"),))
    assert FileChanges(removed=("a",)) == write_volume(root, ())
    check(root)


def test_first_write_without_files_counts_as_written(root: Path) -> None:
    """A volume without files has complete content."""
    assert NO_CHANGES == write_volume(root, ())
    assert is_written(root)


names = st.sampled_from(["a", "b", "c/a", "c/b", "c", "b/x/y", ".h"])


sets = st.lists(
    st.builds(SecretFile, names, st.sampled_from([0o600, 0o644]), st.binary(max_size=3)),
    max_size=5,
).filter(lambda files: path_conflict(f.path for f in files) is None)


@settings(deadline=None, max_examples=60)
@given(st.lists(sets, min_size=1, max_size=6))
def test_only_the_last_of_any_sequence_of_writes_remains(
    sequence: list[list[SecretFile]],
) -> None:
    """Without traces of earlier ones."""
    with TemporaryDirectory() as folder:
        for files in sequence:
            write_volume(Path(folder), files)
            check(Path(folder), *files)


# --- what cannot be written -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", ".", "..", "../a", "/a", "..data", "a/./b", "a\0", "a" * 256])
def test_invalid_path_is_rejected_before_anything_is_written(root: Path, path: str) -> None:
    """One invalid path among valid ones leaves the volume unchanged."""
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
def test_conflicting_paths_are_rejected(root: Path, paths: tuple[str, str], words: str) -> None:
    """Else one of them would win by chance."""
    with pytest.raises(FilesInvalidError, match=words):
        write_volume(root, tuple(file(path) for path in paths))
    assert [] == list(root.iterdir())


def test_missing_root_is_a_volume_error(tmp_path: Path) -> None:
    """With the reason of the operating system and a remedy."""
    with pytest.raises(VolumeError, match=r"cannot write the files of .*No such file"):
        write_volume(tmp_path / "removed", (file("a"),))


def test_failed_write_retains_previous_content(root: Path) -> None:
    """The new folder is removed when the link cannot be replaced."""
    old = file("a", "old")
    write_volume(root, (old,))
    (root / "..data_tmp").mkdir()
    with pytest.raises(VolumeError, match="cannot write the files"):
        write_volume(root, (file("a", "new"),))
    (root / "..data_tmp").rmdir()
    check(root, old)


# --- readers --------------------------------------------------------------------------------------


def test_concurrent_reader_never_sees_a_mix(root: Path) -> None:
    """During hundreds of writes, each read returns one complete version."""
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
