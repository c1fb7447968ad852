"""Reads /proc: the processes of a driver, and what they use and may do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        pid: its process ID.
        uid: its real user ID.
        capabilities: the union of its capability sets except the inheritable one.
        no_new_privileges: whether it can never gain privileges.
        network: its network namespace.
    """

    pid: int
    uid: int
    capabilities: int
    no_new_privileges: bool
    network: str


def tree_of(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        parents[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def read_process(pid: int) -> Process:
    """Return a process.

    Raises:
        OSError: it has ended.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    capabilities = 0
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        capabilities |= int(status[name], 16)
    return Process(
        pid,
        int(status["Uid"].split()[0]),
        capabilities,
        status["NoNewPrivs"].strip() == "1",
        str(Path(f"/proc/{pid}/ns/net").readlink()),
    )


def foreign_load(pid: int) -> float:
    """Return how many threads of other processes than a process and its descendants want a CPU.

    Returns:
        The number for each CPU.
    """
    lines = Path("/proc/stat").read_text().splitlines()
    (running,) = (int(line.split()[1]) for line in lines if line.startswith("procs_running"))
    for each in tree_of(pid):
        for task in Path(f"/proc/{each}/task").glob("*/stat"):
            try:
                state = task.read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            running -= state == "R"
    return max(0, running) / (os.cpu_count() or 1)


def unprivileged_children(pid: int) -> tuple[list[Process], list[Process]]:
    """Return the provider workers and the parsers of a driver, which have no network."""
    own = read_process(pid)
    workers: list[Process] = []
    parsers: list[Process] = []
    for each in tree_of(pid)[1:]:
        try:
            found = read_process(each)
        except OSError:
            continue
        if found.uid != 0:
            (workers if found.network == own.network else parsers).append(found)
    return workers, parsers


def memory_of(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes; shared pages count once."""
    total = 0
    for each in tree_of(pid):
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except (OSError, ValueError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def descriptors_of(pid: int) -> int:
    """Return the number of open descriptors of a process and its descendants."""
    total = 0
    for each in tree_of(pid):
        try:
            total += len(list(Path(f"/proc/{each}/fd").iterdir()))
        except OSError:
            continue
    return total
