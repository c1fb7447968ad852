"""Scenarios that run beside each other on one cluster, each in a namespace of its own.

Each is a test like any other; only its work starts before its turn:

    @scenario("two-volumes")
    async def test_a_pod_has_two_volumes(shop: Namespace) -> None:
        await shop.apply(...)

So the suite takes about as long as its longest scenarios, not as all of them together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.e2e.cluster.installation import Installation
from tests.e2e.cluster.namespace import Namespace, new_namespace

AT_ONCE = 8
"""How many run at the same time: more would wait for the two cores of a small machine."""

Steps = Callable[[Namespace], Awaitable[None]]
Test = Callable[["SideBySide", Callable[[str], None]], Awaitable[None]]
_SCENARIO = "keyferry_scenario"


@dataclass(frozen=True)
class Scenario:
    """What is done in one namespace.

    Attributes:
        namespace: its name.
        steps: raise AssertionError when something is not as it should be.
    """

    namespace: str
    steps: Steps


class SideBySide:
    """Running scenarios."""

    def __init__(self, installed: Installation, chosen: Sequence[Scenario]) -> None:
        self._installed = installed
        self._room = asyncio.Semaphore(AT_ONCE)
        self._runs = {each: asyncio.create_task(self._run(each)) for each in chosen}

    async def outcome(self, chosen: Scenario) -> float:
        """Wait for the end of a scenario; raises what it raised, returns the seconds it took."""
        return await self._runs[chosen]

    async def end(self) -> None:
        """End those that still run."""
        for run in self._runs.values():
            run.cancel()
        await asyncio.gather(*self._runs.values(), return_exceptions=True)

    async def _run(self, chosen: Scenario) -> float:
        async with self._room:
            start = time.monotonic()
            async with new_namespace(self._installed, chosen.namespace) as namespace:
                await chosen.steps(namespace)
            return time.monotonic() - start


@asynccontextmanager
async def running_side_by_side(
    installed: Installation, tests: Sequence[object]
) -> AsyncIterator[SideBySide]:
    """Start the scenarios of those tests that have one; none runs on after the block."""
    chosen = [getattr(test, _SCENARIO) for test in tests if hasattr(test, _SCENARIO)]
    running = SideBySide(installed, chosen)
    try:
        yield running
    finally:
        await running.end()


def scenario(namespace: str) -> Callable[[Steps], Test]:
    """Make a test of the steps that are taken in the namespace of this name."""

    def make_test(steps: Steps) -> Test:
        scenario = Scenario(namespace, steps)

        async def test(beside: SideBySide, show: Callable[[str], None]) -> None:
            show(f"{await beside.outcome(scenario):.1f} s")

        test.__doc__ = steps.__doc__
        setattr(test, _SCENARIO, scenario)
        return test

    return make_test
