"""Memory of a program as a container would be charged for it: a control group of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_VERSION_1 = Path("/sys/fs/cgroup/memory")
_VERSION_2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class ControlGroup:
    """A control group, and a program that runs in it.

    Attributes:
        folder: of the group.
        program: a script that joins the group and becomes the program.
    """

    folder: Path
    program: Path

    def memory(self) -> dict[str, float]:
        """Return what is charged now, in MiB: all, what kubelet counts, anonymous, tmpfs, kernel.

        Kubelet counts all but file pages that were not used lately.
        """
        stat = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        if (self.folder / "memory.current").exists():
            total = int((self.folder / "memory.current").read_text())
            names = ("inactive_file", "anon", "shmem", "kernel")
        else:
            total = int((self.folder / "memory.usage_in_bytes").read_text())
            names = ("total_inactive_file", "total_rss", "total_shmem", "")
        inactive, anonymous, tmpfs, kernel = (int(stat.get(name, 0)) for name in names)
        found = {
            "total_mib": total,
            "working_set_mib": total - inactive,
            "anonymous_mib": anonymous,
            "tmpfs_mib": tmpfs,
            "kernel_mib": kernel,
        }
        return {name: round(value / 2**20, 1) for name, value in found.items()}


@contextmanager
def control_group(script: Path, program: str) -> Iterator[ControlGroup]:
    """Make a control group while the block runs; its processes must have ended after it.

    Args:
        script: path of the script to write.
        program: a command of the virtual environment, or a path.
    """
    root = _VERSION_1 if _VERSION_1.is_dir() else _VERSION_2
    folder = root / f"keyferry-bench-{os.getpid()}"
    folder.mkdir()
    installed = Path(sys.executable).parent / program
    procs = folder / "cgroup.procs"
    script.write_text(f'#!/bin/sh\necho $$ >{procs}\nexec {installed} "$@"\n')
    script.chmod(0o755)
    try:
        yield ControlGroup(folder, script)
    finally:
        with suppress(OSError):
            folder.rmdir()
