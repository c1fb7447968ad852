"""What the kernel reports of processes: CPU time, memory, descriptors, threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessUsage:
    """What some processes use together, the processes that they started included.

    Attributes:
        cpu_seconds: seconds of processor time since their start, in user and kernel mode.
        rss_mib: memory in MiB that a container with nothing but these processes would be charged:
            pages that processes share count once.
        file_mib: the part of it that consists of mapped files, in MiB.
        descriptors: open files and sockets.
        threads: of the kernel.
        processes: that have not exited.
    """

    cpu_seconds: float
    rss_mib: float
    file_mib: float
    descriptors: int
    threads: int
    processes: int


def process_usage(pids: Iterable[int]) -> ProcessUsage:
    """The sum over these processes, children that have ended included in their time."""
    each = [_tree_usage(pid) for pid in pids]
    return ProcessUsage(
        sum(one.cpu_seconds for one in each),
        sum(one.rss_mib for one in each),
        sum(one.file_mib for one in each),
        sum(one.descriptors for one in each),
        sum(one.threads for one in each),
        sum(one.processes for one in each),
    )


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time of processes and their descendants, including those that have exited."""
    return sum(_cpu_seconds(pid) for root in pids for pid in _tree(root))


def own_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process without its children."""
    return _cpu_seconds(pid, children=False)


def become_subreaper() -> None:
    """Inherit the orphans of all descendants, so that their CPU time still counts as own."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def leaves(root: int) -> list[int]:
    """Return the descendants of a process that have no children, without the process itself."""
    tree = _tree(root)
    return [pid for pid in tree[1:] if len(_tree(pid)) == 1]


def _tree(root: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    tree = [root]
    for pid in tree:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has exited
            for task in Path("/proc", str(pid), "task").iterdir():
                tree += [int(child) for child in (task / "children").read_text().split()]
    return tree


def processor_wait(pids: Iterable[int]) -> float:
    """Return for how long threads of these processes and their descendants waited for a processor.

    In seconds, since their start. On a quiet machine it is a fraction of their processor time.
    """
    pids = [pid for root in pids for pid in _tree(root)]
    tasks = [task for pid in pids for task in Path("/proc", str(pid), "task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9


def _tree_usage(root: int) -> ProcessUsage:
    """What a process and its descendants use. They map the same files, so those count once."""
    tree = _tree(root)
    each = [found for pid in tree if (found := _single_process(pid))]
    files = max((one.files for one in each), default=0)
    return ProcessUsage(
        sum(map(_cpu_seconds, tree)),
        (sum(one.anonymous for one in each) + files) / 1024,
        files / 1024,
        sum(one.descriptors for one in each),
        sum(one.threads for one in each),
        len(each),
    )


@dataclass(frozen=True)
class _Process:
    """What one process uses; memory in KiB."""

    anonymous: int
    files: int
    descriptors: int
    threads: int


def _single_process(pid: int) -> _Process | None:
    """Return what a process uses; None if it has exited."""
    try:
        return _Process(
            _number(pid, "smaps_rollup", "Pss_Anon"),
            _number(pid, "status", "RssFile"),
            len(list(Path("/proc", str(pid), "fd").iterdir())),
            _number(pid, "status", "Threads"),
        )
    except (FileNotFoundError, ProcessLookupError, KeyError):  # a zombie has no memory
        return None


def _cpu_seconds(pid: int, *, children: bool = True) -> float:
    """Return the CPU time of a process and its exited children; 0 if it has been reaped."""
    try:
        text = _read(pid, "stat")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # The name of the program, in brackets, may contain blanks; the fields after it do not.
    fields = text.rpartition(")")[2].split()
    wanted = (11, 12, 13, 14) if children else (11, 12)
    return sum(int(fields[index]) for index in wanted) / _CLOCK_TICKS_PER_SECOND


def _number(pid: int, name: str, field: str) -> int:
    lines = dict(line.split(":", 1) for line in _read(pid, name).splitlines() if ":" in line)
    return int(lines[field].split()[0])


def _read(pid: int, name: str) -> str:
    return Path("/proc", str(pid), name).read_text()
