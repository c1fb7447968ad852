"""The victim: a tenant that starts a Pod several times a second while another tenant attacks.

async with undisturbed(driver, new_volume, show) as victim:
    ...  # the attack

The end of the block asserts that no publish of the victim failed or waited too long, and that
`/healthz` answered all the time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import grpc

from tests.e2e.node import Driver, Volume
from tests.e2e.tenants.processes import foreign_load

BOUND_SECONDS = 2.0
"""How long a publish of the victim may take while another tenant attacks."""

CALL_SECONDS = 20.0
_BASELINE_PUBLISHES = 8
_INTERVAL_SECONDS = 0.12
_HEALTH_SECONDS = 0.25
_SAMPLE_SECONDS = 0.02


@dataclass
class Record:
    """What happened to the victim.

    Attributes:
        waits: seconds of each publish that succeeded.
        errors: of each publish or unpublish that failed.
        health_waits: seconds of each answer of `/healthz`.
        health_errors: of each missing answer of `/healthz`.
        loads: the highest load of other processes, such as other tests, during each wait.
        health_loads: the same of `health_waits`.
    """

    waits: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    health_waits: list[float] = field(default_factory=list)
    health_errors: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    health_loads: list[float] = field(default_factory=list)

    def too_long(self, *, slowest_before: float, own_delay: float) -> list[tuple[float, float]]:
        """Return the waits above the bound, and the load during each.

        A machine that is slow without the attack is not held to the bound.

        Args:
            slowest_before: seconds of the longest publish before the attack.
            own_delay: see `Victim`.
        """
        waits = zip(self.waits + self.health_waits, self.loads + self.health_loads, strict=True)
        return [
            (seconds, load)
            for seconds, load in waits
            if seconds > max(BOUND_SECONDS * (1 + load), 4 * slowest_before) + own_delay
        ]

    def __str__(self) -> str:
        return (
            f"{len(self.waits)} publishes, {median(self.waits or [0]) * 1e3:.0f} ms median,"
            f" {max(self.waits, default=0) * 1e3:.0f} ms at most, {len(self.errors)} failed;"
            f" /healthz {max(self.health_waits, default=0) * 1e3:.0f} ms at most"
        )


class Victim:
    """Publishes and unpublishes volumes of new Pods.

    Args:
        driver: the driver under attack.
        new_volume: returns a volume of a new Pod, and the content that its files must have.

    Attributes:
        own_delay: the longest time in seconds that the measuring process was not scheduled.
    """

    def __init__(
        self, driver: Driver, new_volume: Callable[[], tuple[Volume, dict[str, bytes]]]
    ) -> None:
        self._driver = driver
        self._new_volume = new_volume
        self.own_delay = 0.0
        self._loads: list[tuple[float, float]] = []
        """Samples of the load of other processes, each with its time."""

    async def measure(self) -> Record:
        """Publish a few volumes one after the other, before the attack."""
        record = Record()
        for _ in range(_BASELINE_PUBLISHES):
            await self._publish(record)
        await self._check_health(record)
        problems = record.errors + record.health_errors
        assert not problems, f"before the attack: {problems[0]}"
        return record

    async def live(self, record: Record, ends: asyncio.Event, after: float) -> None:
        """Start a Pod in each interval until `ends` is set; then wait for the last answers."""
        await asyncio.sleep(after)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_health(record, ends))
            group.create_task(self._watch_own_delay(ends))
            group.create_task(self._watch_load(ends))
            while not ends.is_set():
                group.create_task(self._publish(record))
                await asyncio.sleep(_INTERVAL_SECONDS)

    async def _watch_health(self, record: Record, ends: asyncio.Event) -> None:
        while not ends.is_set():
            await self._check_health(record)
            await asyncio.sleep(_HEALTH_SECONDS)

    async def _watch_own_delay(self, ends: asyncio.Event) -> None:
        while not ends.is_set():
            start = time.monotonic()
            await asyncio.sleep(_SAMPLE_SECONDS)
            self.own_delay = max(self.own_delay, time.monotonic() - start - _SAMPLE_SECONDS)

    async def _watch_load(self, ends: asyncio.Event) -> None:
        while not ends.is_set():
            load = await asyncio.to_thread(foreign_load, os.getpid())
            self._loads.append((time.monotonic(), load))
            await asyncio.sleep(_HEALTH_SECONDS)

    def _highest_load(self, start: float) -> float:
        """Return the highest load since `start`, and in the last sample before."""
        highest = 0.0
        for at, load in reversed(self._loads):
            highest = max(highest, load)
            if at < start:
                break
        return highest

    async def _publish(self, record: Record) -> None:
        volume, expected = self._new_volume()
        start = time.monotonic()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._driver.publish(volume)
            record.waits.append(time.monotonic() - start)
            record.loads.append(self._highest_load(start))
            found = {path: content for path, (_, content) in volume.files().items()}
            if found != expected:
                record.errors.append(f"the volume has the files {sorted(found)}")
            async with asyncio.timeout(CALL_SECONDS):
                await self._driver.unpublish(volume)
        except TimeoutError:
            record.errors.append(f"no answer within {CALL_SECONDS:.0f} s")
        except grpc.aio.AioRpcError as error:
            record.errors.append(f"{error.code().name} {error.details()}")

    async def _check_health(self, record: Record) -> None:
        start = time.monotonic()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status = await health_status(self._driver.metrics)
        except (OSError, TimeoutError) as error:
            record.health_errors.append(f"{type(error).__name__}: {error}")
            return
        record.health_waits.append(time.monotonic() - start)
        record.health_loads.append(self._highest_load(start))
        if " 200 " not in status:
            record.health_errors.append(status)


@asynccontextmanager
async def undisturbed(
    driver: Driver,
    new_volume: Callable[[], tuple[Volume, dict[str, bytes]]],
    show: Callable[[str], None],
    *,
    after: float = 0.0,
) -> AsyncIterator[Record]:
    """Let the victim start Pods while the block runs; assert that they are not disturbed.

    Args:
        driver: the driver under attack.
        new_volume: returns a volume of a new Pod of the victim, and the expected files.
        show: receives the figures.
        after: seconds for which the attacker is alone.
    """
    victim = Victim(driver, new_volume)
    baseline, record = await victim.measure(), Record()
    ends = asyncio.Event()
    living = asyncio.create_task(victim.live(record, ends, after))
    try:
        yield record
    finally:
        ends.set()
        await living
    show(f"{record}; before the attack {max(baseline.waits) * 1e3:.0f} ms at most")
    assert not record.errors, f"{len(record.errors)} errors: {sorted(set(record.errors))[:3]}"
    assert not record.health_errors, f"/healthz: {sorted(set(record.health_errors))[:3]}"
    slow = record.too_long(slowest_before=max(baseline.waits), own_delay=victim.own_delay)
    assert not slow, "waits: " + ", ".join(
        f"{s:.1f} s with a load of {load:.1f}" for s, load in slow
    )


async def health_status(address: str) -> str:
    """Return the status line of `/healthz`."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
        return (await reader.readline()).decode()
    finally:
        writer.close()
