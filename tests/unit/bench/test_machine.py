"""bench/machine.py and bench/memory_group.py: what the kernel reports."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from bench.machine import (
    CpuTimes,
    LoadReport,
    LoadWatch,
    busiest,
    machine,
    parse_cpu_times,
    shares,
)
from bench.memory_group import Charges, charges
from bench.processes import cpu_seconds

MIB = 1024**2
QUIET = LoadReport(0.2, 1.5, 0.01, 0.02, 0.0, 0.001)


def test_machine_has_hardware_and_versions() -> None:
    """Of this machine."""
    found = machine({"Keyferry": "0.1.0"})
    assert {"CPU", "cores", "memory", "kernel", "Python", "Go", "Keyferry"} == set(found)
    assert all(found.values())


def test_busy_and_stolen_time_are_read_from_the_first_line() -> None:
    """Idle time, disks and interrupts are not busy; guests are part of user time."""
    hertz = os.sysconf("SC_CLK_TCK")
    text = f"cpu  {hertz} {hertz} {2 * hertz} 999 999 {hertz} {hertz} {3 * hertz} 5 5\ncpu0 1 1\n"
    assert (4.0, 3.0) == parse_cpu_times(text)
    with pytest.raises(ValueError, match="does not begin with cpu"):
        parse_cpu_times("intr 1")


def test_shares_do_not_count_the_benchmark_itself() -> None:
    """Ten seconds: 8 s busy, of which 5 s own; half a second stolen."""
    start, end = CpuTimes(100.0, 50.0, 1.0, 20.0), CpuTimes(110.0, 58.0, 1.5, 25.0)
    assert (0.3, 0.05) == pytest.approx(shares(start, end))


def test_quiet_machine_has_no_warning() -> None:
    """Load of the benchmark itself at the end is not one."""
    assert [] == QUIET.warnings
    assert QUIET.as_json()["quiet"] is True


@pytest.mark.parametrize(
    ("report", "warning"),
    [
        (LoadReport(0, 1, 0.2, 0, 0, 0), "other processes used 20% of a core before"),
        (LoadReport(0, 1, 0, 0.2, 0, 0), "other processes used 20% of a core during"),
        (LoadReport(0, 1, 0, 0, 0.1, 0), "hypervisor took 10% of a core before the run"),
        (LoadReport(0, 1, 0, 0, 0, 0.1), "hypervisor took 10% of a core during the run"),
    ],
)
def test_busy_machine_is_named(report: LoadReport, warning: str) -> None:
    """One warning for each reason."""
    (found,) = report.warnings
    assert warning in found
    assert report.as_json()["quiet"] is False


def test_warning_names_the_busiest_processes() -> None:
    """Before the run, by name: processes of one name count together."""
    start = {1: ("init", 5.0), 2: ("cc1", 1.0)}
    end = {1: ("init", 5.0), 2: ("cc1", 4.0), 3: ("cc1", 2.0), 4: ("cron", 0.01), 5: ("go", 1.0)}
    named = busiest(start, end, seconds=10)
    assert {"cc1": 0.5, "go": 0.1} == pytest.approx(named)
    (warning,) = LoadReport(0, 1, 0.6, 0, 0, 0, named).warnings
    assert "used 60% of a core before the run (cc1 50%, go 10%)" in warning


def test_cpu_time_of_children_counts_as_own() -> None:
    """Also of those that have exited."""
    watch = LoadWatch(seconds=0.01)
    before = cpu_seconds([os.getpid()])
    work = "import time\nend = time.process_time() + 0.15\nwhile time.process_time() < end: pass"
    child = subprocess.Popen([sys.executable, "-S", "-c", work])
    time.sleep(0.02)
    running = cpu_seconds([os.getpid()])
    child.wait()
    assert cpu_seconds([os.getpid()]) - before >= 0.14
    assert running >= before
    assert 0 == cpu_seconds([child.pid])
    assert watch.report().others_during >= 0


def test_charges_of_both_versions_of_control_groups() -> None:
    """Version 1 has a file for kernel memory; version 2 has sockets as an item of their own."""
    new = {"anon": 30 * MIB, "file": 90 * MIB, "shmem": 4 * MIB, "kernel": 5 * MIB, "sock": MIB}
    assert Charges(30, 4, 6) == charges(new, None)
    old = {"total_rss": 30 * MIB, "total_cache": 90 * MIB, "total_shmem": 4 * MIB}
    assert Charges(30, 4, 6) == charges(old, 6 * MIB)
