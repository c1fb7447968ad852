"""A temporary folder on /dev/shm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp


@contextmanager
def tmpfs_directory() -> Iterator[Path]:
    """Yield a new private folder, which is removed at the end."""
    path = Path(mkdtemp(prefix="keyferry-test-", dir="/dev/shm"))
    try:
        yield path
    finally:
        shutil.rmtree(path)
