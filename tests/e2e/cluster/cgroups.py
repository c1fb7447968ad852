"""One control group for all pods of a cluster, in every cgroup hierarchy of the machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PATIENCE_SECONDS = 20.0


@contextmanager
def control_group(name: str) -> Iterator[str]:
    """A group at the root of every hierarchy; it is removed with its processes afterwards.

    Args:
        name: of the group; must be unique.

    Yields:
        Its path for kubelet's `cgroupRoot`.
    """
    groups = [hierarchy / name for hierarchy in _hierarchies()]
    try:
        for group in groups:
            group.mkdir()
        yield f"/{name}"
    finally:
        _kill_all(groups)
        for group in groups:
            _remove(group)


def processes_of(name: str) -> set[int]:
    """Return the ids of all processes in and below the group of this name."""
    return processes_below([hierarchy / name for hierarchy in _hierarchies()])


def processes_below(groups: list[Path]) -> set[int]:
    """Return the ids of all processes in and below these groups."""
    found: set[int] = set()
    for group in groups:
        for folder, _, _ in os.walk(group):  # continues if a group was removed meanwhile
            with suppress(OSError):
                found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
    return found


def _hierarchies() -> list[Path]:
    """Return the unified hierarchy only, or also those of version 1."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return [
        Path(fields[1])
        for fields in (line.split(" ") for line in mounts)
        if fields[2] in {"cgroup", "cgroup2"} and Path(fields[1]).is_relative_to(_ROOT)
    ]


def _kill_all(groups: list[Path]) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while processes := processes_below(groups):
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > end:
            raise TimeoutError(f"processes {sorted(processes)} outlive SIGKILL")
        time.sleep(0.05)


def _remove(group: Path) -> None:
    """Remove a group and those below it; the kernel releases a killed process a little later."""
    if not group.exists():
        return
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
