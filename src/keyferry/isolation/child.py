"""Starts a child process when it is needed, and replaces it when it ends or is stuck."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyferry.aio.backoff import exponential_backoff
from keyferry.errors import PlatformError, Stage
from keyferry.isolation.watchdog import Observation, Verdict, WatchdogLimits, judge, parse_stat
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    from keyferry.aio.clock import Clock
    from keyferry.isolation.spawner import ChildProcess, Role, Spawner
    from keyferry.telemetry.metrics import Metrics

CHECK_SECONDS = 0.1
"""Time between two looks at a process that has not answered."""
_MAX_DELAY_SECONDS = 2.0
_CLOCK_HZ = os.sysconf("SC_CLK_TCK")
_log = get_logger("isolation")


class ChildSupervisor:
    """The one child process of a role.

    Args:
        spawner: starts it.
        role: what it runs.
        metrics: counts restarts.
        clock: the time.
    """

    def __init__(self, spawner: Spawner, role: Role, metrics: Metrics, clock: Clock) -> None:
        self._spawner = spawner
        self._role = role
        self._metrics = metrics
        self._clock = clock
        self._failed_starts = 0

    async def start(self) -> ChildProcess:
        """Start the process; wait first if it has repeatedly ended at its start.

        Raises:
            PlatformError: it cannot be started.
        """
        if self._failed_starts > 1:
            await self._clock.sleep(
                exponential_backoff(self._failed_starts, max_seconds=_MAX_DELAY_SECONDS)
            )
        try:
            process = await self._spawner.start(self._role)
        except (OSError, ValueError) as error:
            raise PlatformError(
                f"failed to start the {self._role.value} process: {error}",
                "Check the limits on processes and memory of this container.",
                stage=Stage.PROVIDER,
            ) from error
        return process

    def ready(self) -> None:
        """Record that the process has answered for the first time."""
        self._failed_starts = 0

    def ended(self, reason: str, *, at_start: bool = False) -> None:
        """Record that the process ended unexpectedly, or was ended.

        Args:
            reason: completes the sentence "the process ...".
            at_start: whether it has never answered. What a tenant caused later delays no restart.
        """
        self._failed_starts += at_start
        self._metrics.child_restarted(self._role.value)
        _log.error("child process replaced", process=self._role.value, reason=reason)

    async def answered(
        self,
        process: ChildProcess,
        answer: asyncio.Future[Any],
        limits: WatchdogLimits,
    ) -> Verdict:
        """Wait for an answer of the process, and watch it meanwhile.

        Returns:
            `WAIT` when the answer is there, otherwise why the process must be replaced.
        """
        since = self._observe(process)
        while not answer.done():
            before = self._clock.monotonic()
            await asyncio.wait((answer,), timeout=CHECK_SECONDS)
            now = self._observe(process)
            late = now.at - before - CHECK_SECONDS
            if late > CHECK_SECONDS:
                # This process itself did not get the CPU, and may not have read the answer yet.
                cpu = now.cpu if limits.forgives_delays else since.cpu
                since = Observation(since.at + late, cpu, since.stopped)
            if not answer.done() and (verdict := judge(since, now, limits)) is not Verdict.WAIT:
                return verdict
        return Verdict.WAIT

    def _observe(self, process: ChildProcess) -> Observation:
        now = self._clock.monotonic()
        try:
            text = Path(f"/proc/{process.pid}/stat").read_text()
            return parse_stat(text, at=now, clock_hz=_CLOCK_HZ)
        except (OSError, ValueError, IndexError):
            return Observation(now, 0.0, stopped=False)  # it has ended
