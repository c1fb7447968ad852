"""What the kernel says of processes: processor time, memory, descriptors, threads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessUsage:
    """What some processes use together, the processes that they started included.

    Attributes:
        cpu_seconds: seconds of processor time since their start, in user and kernel mode.
        rss_mib: memory in MiB that a container with nothing but these processes would be charged:
            pages that processes share count once.
        descriptors: open files and sockets.
        threads: of the kernel.
    """

    cpu_seconds: float
    rss_mib: float
    descriptors: int
    threads: int


def process_usage(pids: Iterable[int]) -> ProcessUsage:
    """The sum over these processes, children that have ended included in their time."""
    each = [_tree_usage(pid) for pid in pids]
    return ProcessUsage(
        sum(one.cpu_seconds for one in each),
        sum(one.rss_mib for one in each),
        sum(one.descriptors for one in each),
        sum(one.threads for one in each),
    )


def _tree_usage(root: int) -> ProcessUsage:
    """What a process and its descendants use. They map the same files, so those count once."""
    tree = [root]
    for pid in tree:
        tree += [int(child) for child in _read(pid, f"task/{pid}/children").split()]
    each = [_single_process_usage(pid) for pid in tree]
    anonymous = [_kilobytes(pid, "smaps_rollup", "Pss_Anon") for pid in tree]
    files = [_kilobytes(pid, "status", "RssFile") for pid in tree]
    return ProcessUsage(
        sum(one.cpu_seconds for one in each),
        (sum(anonymous) + max(files)) / 1024,
        sum(one.descriptors for one in each),
        sum(one.threads for one in each),
    )


def _single_process_usage(pid: int) -> ProcessUsage:
    # The name of the program, in brackets, may hold blanks; the fields after it do not.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    clock_ticks = sum(int(fields[index]) for index in (11, 12, 13, 14))
    return ProcessUsage(
        clock_ticks / _CLOCK_TICKS_PER_SECOND,
        0.0,
        len(list(Path("/proc", str(pid), "fd").iterdir())),
        _kilobytes(pid, "status", "Threads"),
    )


def _kilobytes(pid: int, name: str, field: str) -> int:
    lines = dict(line.split(":", 1) for line in _read(pid, name).splitlines() if ":" in line)
    return int(lines[field].split()[0])


def _read(pid: int, name: str) -> str:
    return Path("/proc", str(pid), name).read_text()
