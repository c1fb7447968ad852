"""Scenarios that run concurrently on one cluster, each in its own namespace.

Each scenario is a normal test, except that its work starts before pytest reaches it:

    @scenario("two-volumes")
    async def test_a_pod_has_two_volumes(shop: Namespace) -> None:
        await shop.apply(...)

So the suite takes about as long as its longest scenarios, not as long as their sum.
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
"""Maximum number of concurrent scenarios; more would overload two cores."""

Steps = Callable[[Namespace], Awaitable[None]]
Test = Callable[["SideBySide", Callable[[str], None]], Awaitable[None]]
_SCENARIO = "keyferry_scenario"


@dataclass(frozen=True)
class Scenario:
    """The steps of a test in one namespace.

    Attributes:
        namespace: its name.
        steps: raise AssertionError on a failure.
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
        """Wait for a scenario; raise its error or return its duration in seconds."""
        return await self._runs[chosen]

    async def end(self) -> None:
        """Cancel the running scenarios."""
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
    """Start the scenarios of `tests`; cancel the running ones when the block exits."""
    chosen = [getattr(test, _SCENARIO) for test in tests if hasattr(test, _SCENARIO)]
    running = SideBySide(installed, chosen)
    try:
        yield running
    finally:
        await running.end()


def scenario(namespace: str) -> Callable[[Steps], Test]:
    """Return a decorator that turns steps in a namespace of this name into a test."""

    def make_test(steps: Steps) -> Test:
        scenario = Scenario(namespace, steps)

        async def test(beside: SideBySide, show: Callable[[str], None]) -> None:
            show(f"{await beside.outcome(scenario):.1f} s")

        test.__doc__ = steps.__doc__
        setattr(test, _SCENARIO, scenario)
        return test

    return make_test
