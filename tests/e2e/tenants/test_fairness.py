"""Thousands of objects of one tenant at a vault that another tenant shares."""

from __future__ import annotations

from tests.e2e.tenants.arena import Arena
from tests.e2e.vault.classes import entry


async def test_thousands_of_objects_do_not_delay_a_pod_of_another_tenant(arena: Arena) -> None:
    """Eight Pods with 1,200 objects each, at a vault that takes 20 ms for a response."""
    shared = arena.victim.address
    objects = [entry(f"f{n}", f"slow/20/{n}", "value") for n in range(1200)]
    arena.attacker.put_class("many", *objects, parameters={"vaultAddress": shared})
    volumes = [
        arena.attacker.pod("many", account=f"web-{n}", secrets={"token": f"token-{n}"})
        for n in range(8)
    ]
    async with arena.attack():
        await arena.publish_repeatedly(volumes, seconds=6)
