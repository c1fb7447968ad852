"""A vault that the attacker and the victim share: permits are distributed fairly."""

from __future__ import annotations

from tests.e2e.node import Volume
from tests.e2e.tenants.arena import Arena
from tests.e2e.vault.classes import entry


async def test_hanging_requests_do_not_take_all_permits(arena: Arena) -> None:
    """Two hundred requests for which the vault takes a minute, as of a slow secrets engine."""
    shared = arena.victim.address
    objects = [entry(f"f{n}", f"slow/60000/{n}", "value") for n in range(200)]
    arena.attacker.put_class("slow", *objects, parameters={"vaultAddress": shared})
    volumes = [
        arena.attacker.pod("slow", account=f"web-{n}", secrets={"token": f"token-{n}"})
        for n in range(4)
    ]
    async with arena.attack():
        await arena.publish_repeatedly(volumes, seconds=4)


async def test_failures_of_one_tenant_do_not_open_the_circuit_of_another(arena: Arena) -> None:
    """A secrets engine of the attacker fails with every status; the victim's works."""
    shared = arena.victim.address
    pods: list[Volume] = []
    for status in (408, 429, 500, 502, 503, 504):
        name = f"status-{status}"
        arena.attacker.put_class(
            name, entry("a", f"status/{status}", "value"), parameters={"vaultAddress": shared}
        )
        pods += [
            arena.attacker.pod(name, account=f"web-{n}", secrets={"token": f"token-{n}"})
            for n in range(4)
        ]
    async with arena.attack(after=2):
        assert "" not in await arena.publish_repeatedly(pods, seconds=4)
        volume = arena.victim.pod("honest")
        assert "" == await arena.publish(volume)
