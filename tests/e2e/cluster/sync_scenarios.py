"""Scenarios with SecretSyncs, which run concurrently on one Kubernetes API.

@sync_scenario("created")
async def test_a_secret_is_created(shop: SyncNamespace) -> None:
    await shop.apply(azure_class("web", {"db-password": "db"}), secret_sync("web", {"db": "db"}))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from tests.e2e.cluster.side_by_side import (
    Scenario,
    SideBySide,
    Steps,
    Test,
    as_test,
    running_side_by_side,
)
from tests.e2e.cluster.sync_namespace import SyncNamespace, open_sync_namespace
from tests.e2e.cluster.sync_process import DEFAULT, SyncWorld

SYNC = "sync"
"""The group of these scenarios."""
STRICT = "strict"
"""A second controller, which uses only service accounts that opted in, and permits no token."""
STRICT_AUDIENCE = "vault"
"""The only audience of tokens that it permits."""
UNLISTED = "unlisted"
"""A namespace in which no controller may work."""
AT_ONCE = 12


def sync_scenario(namespace: str) -> Callable[[Steps[SyncNamespace]], Test]:
    """Return a decorator that turns steps in a namespace of this name into a test."""

    def make_test(steps: Steps[SyncNamespace]) -> Test:
        scenario = Scenario(SYNC, namespace, steps)

        async def test(sync_beside: SideBySide[SyncNamespace], show: Callable[[str], None]) -> None:
            show(f"{await sync_beside.outcome(scenario):.1f} s")

        return as_test(scenario, test)

    return make_test


@asynccontextmanager
async def running_sync_scenarios(
    world: SyncWorld, chosen: Sequence[Scenario[SyncNamespace]], figures: list[str]
) -> AsyncIterator[SideBySide[SyncNamespace]]:
    """Start two controllers, and the scenarios; each namespace belongs to both controllers."""
    namespaces = [each.namespace for each in chosen if each.namespace != UNLISTED]
    await world.make_namespace(UNLISTED)
    await asyncio.gather(
        world.start_controller(DEFAULT, namespaces=namespaces),
        world.start_controller(
            STRICT,
            "--service-account-opt-in=true",
            "--legacy-conditions",
            namespaces=namespaces,
            audiences=(STRICT_AUDIENCE,),
        ),
    )
    async with running_side_by_side(
        partial(open_sync_namespace, world, figures), chosen, at_once=AT_ONCE
    ) as running:
        yield running
