"""The machine of a benchmark run: hardware, versions, and what else it does meanwhile.

Figures of a busy machine are worthless, so a run names the load average, the CPU time of other
processes and the time that a hypervisor took (steal), before and during the run.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import cpu_seconds, own_cpu_seconds

QUIET_OTHERS = 0.1
"""CPU time of other processes, as a share of one core, up to which a machine is quiet."""
QUIET_STEAL = 0.02
"""CPU time that the hypervisor took, as a share of one core."""
BEFORE_SECONDS = 10.0
_HERTZ = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).parents[1]


def machine(versions: Mapping[str, str]) -> dict[str, str]:
    """Return hardware and versions, as text by name.

    Args:
        versions: of the programs that are compared, by name.
    """
    info = _proc_values(Path("/proc/cpuinfo").read_text())
    memory = int(_proc_values(Path("/proc/meminfo").read_text())["MemTotal"].split()[0])
    flags = " (virtual machine)" if "hypervisor" in info.get("flags", "").split() else ""
    return {
        "CPU": info.get("model name", platform.machine()) + flags,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 1024**2:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Go": _output("go", "version").removeprefix("go version go").split(" ")[0] or "unknown",
        **versions,
    }


def keyferry_version(program: str) -> str:
    """Return version and commit of Keyferry.

    Args:
        program: path of the keyferry program.
    """
    commit = _output("git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12")
    return (
        f"{_output(program, '--version')} ({commit})" if commit else _output(program, "--version")
    )


def go_module_version(path: str) -> str:
    """Return the Go version of a program, and its version from the folder of its build.

    Args:
        path: of the program; its folder is named NAME-VERSION.
    """
    version = Path(path).parent.name.rpartition("-")[2]
    built = _output("go", "version", path).rpartition(": ")[2]
    return f"{version}, built with {built}" if built else version


def _output(*command: str) -> str:
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout.strip()


def _proc_values(text: str) -> dict[str, str]:
    """Return the first value of each name in lines such as `name: value`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


@dataclass(frozen=True)
class CpuTimes:
    """CPU seconds since the machine started, over all cores, and those of this benchmark.

    Attributes:
        moment: monotonic time in seconds.
        busy: spent by any process or thread of the kernel, without interrupts, which belong to no
            process.
        steal: taken by the hypervisor.
        own: of this process and its descendants, including those that have exited.
    """

    moment: float
    busy: float
    steal: float
    own: float

    @classmethod
    def now(cls) -> CpuTimes:
        """Read the counters of the kernel."""
        busy, steal = parse_cpu_times(Path("/proc/stat").read_text())
        return cls(time.monotonic(), busy, steal, cpu_seconds([os.getpid()]))


def parse_cpu_times(text: str) -> tuple[float, float]:
    """Return busy and stolen CPU seconds of all cores from the text of /proc/stat."""
    match = re.match(r"cpu +(.+)", text)
    if match is None:
        raise ValueError("the first line of /proc/stat does not begin with cpu")
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(int, match[1].split()[:8])
    return (user + nice + system) / _HERTZ, steal / _HERTZ


@dataclass(frozen=True)
class LoadReport:
    """What else a machine did. The load average includes the benchmark, and lags behind.

    Attributes:
        load_average_before: of the last minute, before the run.
        load_average_after: of the last minute, at the end of the run.
        others_before: CPU time of other processes before the run, as a share of one core.
        others_during: the same during the run.
        steal_before: CPU time that the hypervisor took before the run, as a share of one core.
        steal_during: the same during the run.
        busiest: names of the busiest other processes before the run, with their shares of a core.
    """

    load_average_before: float
    load_average_after: float
    others_before: float
    others_during: float
    steal_before: float
    steal_during: float
    busiest: Mapping[str, float] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """Return why the machine was not quiet; empty if it was."""
        found = []
        for when, others, steal in (
            ("before", self.others_before, self.steal_before),
            ("during", self.others_during, self.steal_during),
        ):
            if others > QUIET_OTHERS:
                named = [f"{name} {share:.0%}" for name, share in self.busiest.items()]
                which = f" ({', '.join(named)})" if named and when == "before" else ""
                found.append(f"other processes used {others:.0%} of a core {when} the run{which}")
            if steal > QUIET_STEAL:
                found.append(f"the hypervisor took {steal:.0%} of a core {when} the run (steal)")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the report with its warnings."""
        numbers = [name for name in self.__dataclass_fields__ if name != "busiest"]
        fields = {name: round(getattr(self, name), 4) for name in numbers}
        return {**fields, "quiet": not self.warnings, "warnings": self.warnings}


class LoadWatch:
    """Watches the machine from before a run to its end. Takes `BEFORE_SECONDS` to create.

    Args:
        seconds: how long to observe the machine before the run.
    """

    def __init__(self, seconds: float = BEFORE_SECONDS) -> None:
        self._average = os.getloadavg()[0]
        start, processes = CpuTimes.now(), _cpu_of_processes()
        time.sleep(seconds)
        self._start = CpuTimes.now()
        self._before = shares(start, self._start)
        self._busiest = busiest(processes, _cpu_of_processes(), self._start.moment - start.moment)

    def report(self) -> LoadReport:
        """Return what the machine did until now; during the first second, nothing."""
        now = CpuTimes.now()
        during = shares(self._start, now) if now.moment - self._start.moment >= 1 else (0.0, 0.0)
        return LoadReport(
            self._average, os.getloadavg()[0],
            self._before[0], during[0], self._before[1], during[1], self._busiest,
        )  # fmt: skip


def shares(start: CpuTimes, end: CpuTimes) -> tuple[float, float]:
    """Return the CPU time of other processes and the stolen time, as shares of one core."""
    seconds = max(end.moment - start.moment, 1e-9)
    others = max(0.0, (end.busy - start.busy) - (end.own - start.own)) / seconds
    return others, max(0.0, end.steal - start.steal) / seconds


Processes = Mapping[int, tuple[str, float]]
"""Name and CPU seconds by process id."""


def busiest(start: Processes, end: Processes, seconds: float, count: int = 3) -> dict[str, float]:
    """Return the names of the busiest processes with their shares of one core.

    Args:
        start: all processes at the beginning.
        end: all processes at the end.
        seconds: time between the two.
        count: number of names.
    """
    found: defaultdict[str, float] = defaultdict(float)
    for pid, (name, cpu) in end.items():
        found[name] += (cpu - start.get(pid, ("", 0.0))[1]) / seconds
    names = sorted(found, key=lambda name: -found[name])[:count]
    return {name: found[name] for name in names if found[name] > QUIET_OTHERS / 10}


def _cpu_of_processes() -> Processes:
    """Return the processes of the machine, without this one."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid != os.getpid():
            with suppress(OSError):
                found[pid] = ((folder / "comm").read_text().strip(), own_cpu_seconds(pid))
    return found
