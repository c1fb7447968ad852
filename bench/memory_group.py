"""A memory control group for the processes of one side: what a container would be charged.

Works with both versions of cgroups. Processes join before they start, because the kernel does not
move charges. Pages of files are charged to the group that read them first, which depends on what
else runs, so mapped files are taken from the processes (`bench.processes`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MIB = 1024**2
_REMOVE_SECONDS = 20.0
_numbers = count()


@dataclass(frozen=True)
class Charges:
    """Memory in MiB that is charged to a group, without pages of files.

    Attributes:
        anonymous: heaps and stacks.
        shared: files in tmpfs, which includes the content of mounted volumes.
        kernel: kernel memory, such as page tables, sockets, inodes and dentries.
    """

    anonymous: float
    shared: float
    kernel: float


@dataclass(frozen=True)
class MemoryGroup:
    """A control group.

    Attributes:
        path: its folder.
    """

    path: Path

    @property
    def prefix(self) -> tuple[str, ...]:
        """The beginning of a command line; the rest then runs in the group."""
        script = f'echo $$ > {self.path / "cgroup.procs"} && exec "$0" "$@"'
        return ("/bin/sh", "-c", script)

    def charges(self) -> Charges:
        """Return what is charged now."""
        text = (self.path / "memory.stat").read_text()
        stat = {name: int(value) for name, value in map(str.split, text.splitlines())}
        old = self.path / "memory.kmem.usage_in_bytes"
        return charges(stat, int(old.read_text()) if old.exists() else None)


def charges(stat: Mapping[str, int], old_kernel: int | None) -> Charges:
    """Return the charges of a group.

    Args:
        stat: numbers of `memory.stat`.
        old_kernel: bytes of kernel memory, with version 1 of cgroups; None with version 2.
    """
    if old_kernel is None:
        kernel = stat.get("kernel", 0) + stat.get("sock", 0)
        return Charges(stat["anon"] / _MIB, stat["shmem"] / _MIB, kernel / _MIB)
    return Charges(stat["total_rss"] / _MIB, stat["total_shmem"] / _MIB, old_kernel / _MIB)


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A new group at the root of the hierarchy; removed after its processes have exited.

    Raises:
        OSError: the user may not create control groups, or memory is not controlled.
    """
    path = _hierarchy() / f"keyferry-bench-{os.getpid()}-{next(_numbers)}"
    path.mkdir()
    try:
        if not (path / "memory.stat").exists():
            raise OSError(f"memory is not controlled in {path.parent}")
        yield MemoryGroup(path)
    finally:
        _remove(path)


def _hierarchy() -> Path:
    """Return the folder in which groups for memory are created."""
    old = _ROOT / "memory"
    return old if old.is_dir() else _ROOT


def _remove(path: Path) -> None:
    """Remove a group; the kernel releases a killed process a little later."""
    end = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return
