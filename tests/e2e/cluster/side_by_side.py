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
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytest

AT_ONCE = 8
"""Maximum number of concurrent scenarios; more would overload two cores."""

N = TypeVar("N")
"""What a scenario does in its namespace."""

Steps = Callable[[N], Awaitable[None]]
Test = Callable[["SideBySide[Any]", Callable[[str], None]], Awaitable[None]]
COMMON = "common"
"""The scenarios of the common cluster."""
_SCENARIO = "keyferry_scenario"


@dataclass(frozen=True)
class Scenario(Generic[N]):
    """The steps of a test in one namespace.

    Attributes:
        group: of scenarios that share a cluster.
        namespace: its name.
        steps: raise AssertionError on a failure.
    """

    group: str
    namespace: str
    steps: Steps[N]


class SideBySide(Generic[N]):
    """Running scenarios.

    Args:
        open_namespace: creates a namespace for a scenario.
        chosen: the scenarios.
        at_once: maximum number of concurrent ones.
    """

    def __init__(
        self,
        open_namespace: Callable[[str], AbstractAsyncContextManager[N]],
        chosen: Sequence[Scenario[N]],
        at_once: int,
    ) -> None:
        self._open_namespace = open_namespace
        self._room = asyncio.Semaphore(at_once)
        self._runs = {each: asyncio.create_task(self._run(each)) for each in chosen}

    async def outcome(self, chosen: Scenario[N]) -> float:
        """Wait for a scenario; raise its error or return its duration in seconds."""
        return await self._runs[chosen]

    async def end(self) -> None:
        """Cancel the running scenarios."""
        for run in self._runs.values():
            run.cancel()
        await asyncio.gather(*self._runs.values(), return_exceptions=True)

    async def _run(self, chosen: Scenario[N]) -> float:
        async with self._room:
            start = time.monotonic()
            async with self._open_namespace(chosen.namespace) as namespace:
                await chosen.steps(namespace)
            return time.monotonic() - start


def scenarios_of(items: Sequence[pytest.Item], group: str = COMMON) -> list[Scenario[Any]]:
    """Return the scenarios of a group among the collected tests."""
    tests = [item.function for item in items if isinstance(item, pytest.Function)]
    found = [getattr(test, _SCENARIO) for test in tests if hasattr(test, _SCENARIO)]
    return [each for each in found if each.group == group]


@asynccontextmanager
async def running_side_by_side(
    open_namespace: Callable[[str], AbstractAsyncContextManager[N]],
    chosen: Sequence[Scenario[N]],
    *,
    at_once: int = AT_ONCE,
) -> AsyncIterator[SideBySide[N]]:
    """Start scenarios; cancel the running ones when the block exits."""
    running = SideBySide(open_namespace, chosen, at_once)
    try:
        yield running
    finally:
        await running.end()


def scenario(namespace: str) -> Callable[[Steps[N]], Test]:
    """Return a decorator that turns steps in a namespace of this name into a test."""

    def make_test(steps: Steps[N]) -> Test:
        scenario = Scenario(COMMON, namespace, steps)

        async def test(beside: SideBySide[N], show: Callable[[str], None]) -> None:
            show(f"{await beside.outcome(scenario):.1f} s")

        return as_test(scenario, test)

    return make_test


def as_test(scenario: Scenario[N], test: Test) -> Test:
    """Mark a test as the one that waits for a scenario."""
    test.__doc__ = scenario.steps.__doc__
    setattr(test, _SCENARIO, scenario)
    return test
