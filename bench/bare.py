"""The system calls that no driver can do without, in a bare loop: the limit of any publish."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def bare_cycle_seconds(folder: Path, *, contents: Sequence[bytes], cycles: int) -> float:
    """The mean of so many cycles: mount a tmpfs, swap the files in, unmount, remove the folder."""
    folder.mkdir(exist_ok=True)
    target = folder / "mount"
    start = time.perf_counter()
    for _ in range(cycles):
        _fill(target, contents)
        _check(_libc.umount2(os.fsencode(target), 0), target)
        target.rmdir()
    return (time.perf_counter() - start) / cycles


def _fill(target: Path, contents: Sequence[bytes]) -> None:
    target.mkdir()
    _check(_libc.mount(b"bare", os.fsencode(target), b"tmpfs", ctypes.c_ulong(0), b""), target)
    inner = target / "..2026"
    inner.mkdir()
    for number, content in enumerate(contents):
        descriptor = os.open(inner / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, content)
        os.fchmod(descriptor, 0o644)
        os.close(descriptor)
        (target / str(number)).symlink_to(f"..data/{number}")
    (target / "..data_tmp").symlink_to("..2026")
    (target / "..data_tmp").rename(target / "..data")


def _check(result: int, target: Path) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(target))
