"""What the kernel says of processes: processor time, memory, descriptors, threads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessUsage:
    """What some processes use together.

    Attributes:
        cpu_seconds: seconds of processor time since their start, in user and kernel mode.
        rss_mib: resident memory in MiB.
        descriptors: open files and sockets.
        threads: of the kernel.
    """

    cpu_seconds: float
    rss_mib: float
    descriptors: int
    threads: int


def process_usage(pids: Iterable[int]) -> ProcessUsage:
    """The sum over these processes, children that have ended included in their time."""
    each = [_single_process_usage(pid) for pid in pids]
    return ProcessUsage(
        sum(one.cpu_seconds for one in each),
        sum(one.rss_mib for one in each),
        sum(one.descriptors for one in each),
        sum(one.threads for one in each),
    )


def _single_process_usage(pid: int) -> ProcessUsage:
    folder = Path("/proc", str(pid))
    # The name of the program, in brackets, may hold blanks; the fields after it do not.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    clock_ticks = sum(int(fields[index]) for index in (11, 12, 13, 14))
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    return ProcessUsage(
        clock_ticks / _CLOCK_TICKS_PER_SECOND,
        int(status["VmRSS"].split()[0]) / 1024,
        len(list((folder / "fd").iterdir())),
        int(status["Threads"]),
    )
