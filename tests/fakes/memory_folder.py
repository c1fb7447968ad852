"""A folder on the tmpfs that every Linux has, removed with the block."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp


@contextmanager
def tmpfs_directory() -> Iterator[Path]:
    """A new folder of our own, mode 0700."""
    path = Path(mkdtemp(prefix="keyferry-test-", dir="/dev/shm"))
    try:
        yield path
    finally:
        shutil.rmtree(path)
