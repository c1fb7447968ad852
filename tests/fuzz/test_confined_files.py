"""Paths and trees of links that a tenant could make, with the kernel as the judge."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import event, given, settings
from hypothesis import strategies as st

from keyferry.formats.confined_files import ConfinedFiles

OF_TREES = max(settings().max_examples // 20, 50)
"""Cases that make a tree of files, which takes time."""
PUBLIC, SECRET = b"public", b"secret"
NAMES = st.sampled_from(["a", "b", "c", "..data", "f", ".", "..", ""])
TARGETS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
ABSOLUTE = st.tuples(st.sampled_from(["permitted", "other", "kubelet"]), TARGETS).map("/".join)
LINKS = st.dictionaries(
    st.tuples(
        st.sampled_from(["", "a", "b", "a/b"]), st.sampled_from(["a", "b", "c", "..data", "l"])
    ),
    st.tuples(st.booleans(), TARGETS, ABSOLUTE),
    max_size=6,
)


@contextmanager
def _tree(links: dict[tuple[str, str], tuple[bool, str, str]]) -> Iterator[Path]:
    """A permitted folder, and two that are not, each with some files; links in the first one."""
    with TemporaryDirectory() as name:
        root = Path(name).resolve()
        for top, content in (
            ("permitted", PUBLIC),
            ("other", SECRET),
            ("permitted/kubelet", SECRET),
        ):
            for folder in ("", "a", "b", "a/b"):
                (root / top / folder).mkdir(parents=True, exist_ok=True)
                (root / top / folder / "f").write_bytes(content)
        (root / "kubelet").symlink_to("permitted/kubelet")
        for (folder, link), (is_absolute, relative, absolute) in links.items():
            with suppress(OSError):
                (root / "permitted" / folder / link).symlink_to(
                    root / absolute if is_absolute else relative
                )
        yield root


@settings(max_examples=OF_TREES)
@given(links=LINKS, path=TARGETS, top=st.sampled_from(["permitted", "other", "kubelet", ""]))
def test_no_path_leaves_the_permitted_folder(
    links: dict[tuple[str, str], tuple[bool, str, str]], path: str, top: str
) -> None:
    """What is read is what the kernel would read, if that is below the permitted folder."""
    with _tree(links) as root:
        files = ConfinedFiles((f"{root}/permitted",), (f"{root}/kubelet",))
        full = f"{root}/{top}/{path}"
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        content = None
        with suppress(OSError):
            content = files.read(full, max_bytes=100)
        event("read" if content else "refused")
        assert content in (None, PUBLIC)
        for stamp in _found(files, f"{root}/permitted"):
            assert PUBLIC == files.read(stamp, max_bytes=100)
        assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@settings(max_examples=OF_TREES)
@given(links=LINKS, path=TARGETS)
def test_permitted_files_are_found_as_by_the_kernel(
    links: dict[tuple[str, str], tuple[bool, str, str]], path: str
) -> None:
    """Unless `..` follows a link, which is resolved by its text."""
    with _tree(links) as root:
        full = f"{root}/permitted/{path}"
        real = os.path.realpath(full)
        is_permitted = real.startswith(f"{root}/permitted/") and not real.startswith(
            f"{root}/permitted/kubelet"
        )
        texts = [
            path,
            *(target for _, target, _ in links.values()),
            *(t for _, _, t in links.values()),
        ]
        if not is_permitted or not Path(real).is_file() or any(".." in t.split("/") for t in texts):
            return
        event("permitted")
        files = ConfinedFiles((f"{root}/permitted",), (f"{root}/kubelet",))
        assert PUBLIC == files.read(full, max_bytes=100)


@given(st.text(max_size=60) | st.binary(max_size=60).map(os.fsdecode))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    """No exception but `OSError`, which the caller translates."""
    files = ConfinedFiles(("/etc/ssl/certs",), ("/var/lib/kubelet",))
    for path in (text, f"/etc/ssl/certs/{text}"):
        with suppress(OSError):
            files.read(path, max_bytes=10)
        with suppress(OSError):
            files.search(path, max_files=1)


def _found(files: ConfinedFiles, folder: str) -> list[str]:
    try:
        return [stamp.path for stamp in files.search(folder, max_files=100)]
    except OSError:
        return []
