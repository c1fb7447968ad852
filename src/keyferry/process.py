"""Protects a process that holds secrets, and prepares it for many open files.

`keyferry driver` and `keyferry provider` call both functions before they read any secret; so does
every child process, because the kernel resets the dumpable flag when a process changes its user.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

_PR_SET_DUMPABLE = 4


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


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard limit; asyncio needs no low descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
