"""Candidates of a leader election that share a Lease in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from keyferry.kubernetes.api.syncs.leader_election import LeaderElection
from tests.fakes.leases import LeaseClient, Leases
from tests.fakes.virtual_time import LoopClock


class SkewedClock(LoopClock):
    """A clock of one candidate.

    Attributes:
        skew: by which its wall time is wrong.
        paused: seconds for which the process was stopped, without a turn of its loop.
    """

    def __init__(self, skew: timedelta = timedelta(0)) -> None:
        self.skew = skew
        self.paused = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.paused

    def wall(self) -> datetime:
        return super().wall() + self.skew


class Candidate:
    """A controller that counts when it works.

    Attributes:
        election: decides whether it works.
        network: between it and the API.
        clock: its own.
        changes: the calls of `on_change`.
        writes: times at which it may write, checked every tenth of a second.
        cleanup: seconds that it needs to end after it was cancelled.
    """

    def __init__(
        self, leases: Leases, name: str, *, skew: timedelta = timedelta(0), jitter: float = 0.0
    ) -> None:
        self.network: LeaseClient = leases.client()
        self.clock = SkewedClock(skew)
        self.election = LeaderElection(
            self.network,
            namespace="keyferry",
            name="keyferry-sync",
            identity=name,
            clock=self.clock,
            jitter=lambda: jitter,
        )
        self.changes: list[bool] = []
        self.election.on_change.append(self.changes.append)
        self.works = False
        self.starts = 0
        self.writes: list[float] = []
        self.cleanup = 0.0
        self.task: asyncio.Task[None] | None = None

    async def work(self) -> None:
        """Write all the time, as long as this candidate leads."""
        self.works = True
        self.starts += 1
        try:
            while True:
                self.write()
                await asyncio.sleep(0.1)
        finally:
            await asyncio.sleep(self.cleanup)
            self.works = False

    def write(self) -> None:
        if self.election.is_leader:
            self.writes.append(asyncio.get_running_loop().time())

    def start(self) -> None:
        self.task = asyncio.create_task(self.election.run(self.work))

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    def kill(self) -> None:
        """Stop at once: nothing arrives at the API any more."""
        self.network.hangs = True


async def until(condition: Callable[[], bool]) -> float:
    """Wait until `condition` holds, and return the seconds that passed."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while not condition():
        await asyncio.sleep(0.05)
        assert loop.time() < started + 600, "it never happens"
    return loop.time() - started


def overlap(one: Candidate, other: Candidate) -> bool:
    """Return whether both wrote in one period."""
    if not one.writes or not other.writes:
        return False
    first, second = sorted((one, other), key=lambda candidate: candidate.writes[0])
    return first.writes[-1] >= second.writes[0]


async def leader_and_candidate(leases: Leases) -> tuple[Candidate, Candidate]:
    """Start two candidates, of which the first leads."""
    one, two = Candidate(leases, "one"), Candidate(leases, "two")
    one.start()
    await until(lambda: one.works)
    two.start()
    return one, two
