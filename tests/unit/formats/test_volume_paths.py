"""keyferry.formats.volume_paths: which paths a volume can hold.

Source: docs/reference/upstream-driver.md#file-paths
"""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyferry.formats.volume_paths import (
    MAX_ELEMENT_BYTES,
    MAX_FILES,
    MAX_FOLDERS,
    MAX_PATH_BYTES,
    _count_entries,
    count_problem,
    path_conflict,
    path_problem,
)

LONGEST = "/".join(["x" * 255] * 16)
"""16 elements of 255 bytes and 15 slashes: 4095 bytes; one byte more is 4096."""

paths = st.text(st.sampled_from("a.b/\\\0é"), max_size=12)


@pytest.mark.parametrize(
    "path",
    [
        "a", ".a", "a.b", "a/b/c", "a/..x", "a/...", "a/.b", "a b", "a\\b", "\\x", "-",
        "é", "\n", "~", "a" * 255, "é" * 127, f"d/{'a' * 255}",
    ],
)  # fmt: skip
def test_an_ordinary_path_is_accepted(path: str) -> None:
    """A backslash, a blank or a newline is a character like any other."""
    assert path_problem(path) is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "empty"),
        ("/", "absolute"),
        ("/a", "absolute"),
        ("//a", "absolute"),
        ("..", "'..'"),
        ("../a", "leads out"),
        ("a/..", "leads out"),
        ("a/../b", "leads out"),
        ("..data", "keeps for itself"),
        ("..data/a", "keeps for itself"),
        ("..x", "keeps for itself"),
        ("...", "keeps for itself"),
        ("..2026_11_24_02_19_20.1", "keeps for itself"),
        (".", "shortest form"),
        ("./a", "shortest form"),
        ("a/.", "shortest form"),
        ("a/./b", "shortest form"),
        ("a//b", "shortest form"),
        ("a/", "shortest form"),
        ("a\0b", "NUL"),
        ("\0", "NUL"),
        ("a" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
        (f"d/{'a' * 256}/e", "255 bytes"),
        (f"{LONGEST}/aa", "4096 bytes"),
        ("d/" * 33 + "a", "more than 32 nested folders"),
        ("d/" * 1200 + "a", "more than 32 nested folders"),
    ],
)
def test_a_path_that_no_volume_can_hold_is_refused_with_the_reason(path: str, words: str) -> None:
    """The reason ends the sentence "the path ..."."""
    assert words in (path_problem(path) or "")


def test_the_limits_count_bytes_and_are_themselves_allowed() -> None:
    """255 bytes an element and 4096 a path pass, one more does not."""
    assert (255, 4096) == (MAX_ELEMENT_BYTES, MAX_PATH_BYTES)
    longest = "/".join(["x" * 255] * 15 + ["x" * 254, "x"])
    assert MAX_PATH_BYTES == len(longest)
    assert path_problem(longest) is None
    assert path_problem(longest + "x") is not None
    assert path_problem("d/" * MAX_FOLDERS + "a") is None


@given(paths)
@example("..data")
@example("a/\\")
def test_an_accepted_path_stays_inside_and_means_one_file(path: str) -> None:
    """Whatever passes is relative, in its shortest form, and shadows nothing of the layout."""
    if path_problem(path) is None:
        assert path == posixpath.normpath(path)
        assert posixpath.join("/v", path).startswith("/v/")
        assert ".." not in path.split("/")
        assert not path.startswith("..")
        assert "\0" not in path


@pytest.mark.parametrize(
    ("paths", "clash"),
    [
        ([], None),
        (["a"], None),
        (["a", "b"], None),
        (["a/b", "a/c"], None),
        (["a", "ab", "a.b"], None),
        (["a", "a"], ("a", "a")),
        (["a/b", "a"], ("a", "a/b")),
        (["a", "a/b/c"], ("a", "a/b/c")),
        (["a/b/c", "x", "a/b"], ("a/b", "a/b/c")),
        (["a", "a-b", "a/c"], ("a", "a/c")),
    ],
)
def test_two_files_in_one_place_are_found(paths: list[str], clash: tuple[str, str] | None) -> None:
    """Equal paths clash, and a file clashes with a folder of its name; neighbours do not."""
    assert clash == path_conflict(paths)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([f"{n}" for n in range(MAX_FILES)], ""),
        ([f"{n}" for n in range(MAX_FILES + 1)], "4097 files; a volume has at most 4096"),
        ([f"{n}/x" for n in range(MAX_FILES)], ""),
        ([f"{n}/y/x" for n in range(MAX_FILES)], "12288 files and folders"),
        (["d/" * MAX_FOLDERS + f"{n}" for n in range(MAX_FILES)], ""),
    ],
)
def test_number_of_files_and_folders_is_limited(paths: list[str], words: str) -> None:
    """Each takes memory of the kernel, even if it is empty."""
    assert words in (count_problem(paths) or "")
    assert bool(words) == bool(count_problem(paths))


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)))
def test_each_folder_counts_once(paths: list[str]) -> None:
    """The rule against the definition: all files, and all folders above them."""
    files = {path for path in paths if not any(other.startswith(f"{path}/") for other in paths)}
    folders = {
        "/".join(path.split("/")[:length])
        for path in files
        for length in range(1, path.count("/") + 1)
    }
    assert len(files) + len(folders) == _count_entries(files)


elements = st.sampled_from(["a", "b", "a-", "a."])


@given(st.lists(st.lists(elements, min_size=1, max_size=3).map("/".join), max_size=5))
def test_a_clash_is_found_exactly_where_one_is(names: list[str]) -> None:
    """The rule against the definition: some pair is equal or nested, or none is."""
    pairs = [
        (first, second)
        for index, first in enumerate(names)
        for other, second in enumerate(names)
        if index != other and (first == second or second.startswith(f"{first}/"))
    ]
    clash = path_conflict(names)
    assert bool(pairs) == (clash is not None)
    assert clash is None or clash in pairs
