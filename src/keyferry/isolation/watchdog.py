"""Decides whether a child process is stuck. [pure]

A process that does not answer may be stuck, or may just not have got the CPU on a busy machine. So
the time that counts is the CPU time that it used without answering. Whether it was
stopped by a signal is in its state.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Verdict(Enum):
    """What is done with a process that has not answered yet."""

    WAIT = "wait"
    SPINNING = "used too much CPU time for one request"
    STOPPED = "is stopped"
    SILENT = "did not answer in time"


class WatchdogLimits(Struct, frozen=True):
    """When a process that has not answered is replaced. Times in seconds."""

    cpu: float = 0.8
    """CPU time since the request that it has not answered."""
    stopped: float = 0.5
    """Time in the state "stopped"."""
    silent: float = 10.0
    """Time without an answer, whatever the reason."""
    forgives_delays: bool = False
    """Whether CPU time does not count that the process used while its watcher had no CPU itself.
    For a process that serves many requests, whose end is expensive."""


class Observation(Struct, frozen=True):
    """What is known of a process at one moment.

    Attributes:
        at: seconds of a monotonic clock.
        cpu: CPU time that it has used, in seconds.
        stopped: whether it is stopped.
    """

    at: float
    cpu: float
    stopped: bool


def parse_stat(text: str, *, at: float, clock_hz: int) -> Observation:
    """Read /proc/PID/stat.

    Raises:
        ValueError: it has another form.
    """
    _, _, fields = text.rpartition(") ")
    state, *numbers = fields.split()
    # proc(5) counts from 1: state is field 3, utime field 14, stime field 15.
    cpu = (int(numbers[10]) + int(numbers[11])) / clock_hz
    return Observation(at, cpu, state in ("T", "t"))


def judge(since: Observation, now: Observation, limits: WatchdogLimits) -> Verdict:
    """Return what to do with a process that has not answered.

    Args:
        since: when the request was sent.
        now: the present.
        limits: when it is replaced.
    """
    if now.cpu - since.cpu >= limits.cpu:
        return Verdict.SPINNING
    if now.stopped and now.at - since.at >= limits.stopped:
        return Verdict.STOPPED
    if now.at - since.at >= limits.silent:
        return Verdict.SILENT
    return Verdict.WAIT
