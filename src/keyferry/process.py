"""Protects a process that holds secrets, and prepares it for many files and large responses.

`keyferry driver` and `keyferry provider` call all functions before they read any secret. Each child
process calls `protect_memory` again, because the kernel resets the dumpable flag when a process
changes its user.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CAP_SYS_ADMIN = 21
_PR_SET_DUMPABLE = 4
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BLOCK_BYTES = 128 * 1024
"""The size from which glibc maps a block of its own; its initial default."""


def protect_memory() -> None:
    """Keep core dumps, and other processes of the same user, from the memory of this process.

    1. No core file is written, whatever limit the process inherited.
    2. The process is not dumpable. A core dump handler gets nothing, and only a process with
       CAP_SYS_PTRACE can attach to this one or read its memory. Files of its /proc folder belong to
       root, which the process itself can still read.

    Raises:
        OSError: the kernel refused.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def return_freed_memory() -> None:
    """Return large blocks of memory to the kernel as soon as they are freed.

    glibc maps large blocks separately, but raises the size from which it does so when the first of
    them is freed. Later blocks of that size then stay in the heap: after responses of 1 MB each,
    several times the memory in use was never returned. No effect with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BLOCK_BYTES)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard limit; asyncio needs no low descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def prepare_daemon() -> None:
    """Prepare a process that serves until it is stopped, before its first thread."""
    protect_memory()
    raise_descriptor_limit()
    return_freed_memory()


@contextmanager
def pausing_gc() -> Iterator[None]:
    """Import modules without garbage collection, and exclude their objects from it for good.

    They live as long as the process. Scanning them would take a tenth of the start, and
    occasionally 40 ms in the middle of a mount.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def has_capability(number: int) -> bool:
    """Return whether this process has an effective capability.

    Args:
        number: of the capability, as in linux/capability.h.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def can_mount() -> bool:
    """Return whether this process may mount (effective CAP_SYS_ADMIN)."""
    return has_capability(_CAP_SYS_ADMIN)
