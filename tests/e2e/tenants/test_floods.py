"""Many Pods of one tenant at once, with all that a Pod may carry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.node import Volume
from tests.e2e.tenants.arena import Arena
from tests.e2e.vault.classes import entry


def many_small(arena: Arena) -> list[Volume]:
    """Return as many Pods as a node may have, each with a small volume."""
    arena.attacker.put_class("small", entry("a", "value/a", "value"))
    return [arena.attacker.pod("small", secrets={"token": f"t-{n}"}) for n in range(250)]


def large_secrets(arena: Arena) -> list[Volume]:
    """Return Pods with the largest Secrets and attributes that Kubernetes and gRPC accept."""
    arena.attacker.put_class("secrets", entry("a", "value/a", "value"))
    secrets = {"token": "t", "other": "x" * 1_000_000}
    context = {"attribute": "y" * 1_000_000}
    return [arena.attacker.pod("secrets", secrets=secrets, context=context) for _ in range(30)]


def unknown_hosts(arena: Arena) -> list[Volume]:
    """Return Pods whose vaults have names that no DNS server knows."""
    volumes = []
    arena.attacker.put_class("hosts", entry("a", "value/a", "value"))
    for number in range(80):
        context = {"vaultAddress": f"http://h{number}.invalid.example:8200"}
        volumes.append(arena.attacker.pod("hosts", context=context))
    return volumes


def silent_hosts(arena: Arena) -> list[Volume]:
    """Return Pods whose vaults do not answer: addresses that swallow packets."""
    volumes = []
    arena.attacker.put_class("silent", entry("a", "value/a", "value"))
    for number in range(80):
        context = {"vaultAddress": f"https://198.51.100.{number + 1}:8200"}
        volumes.append(arena.attacker.pod("silent", context=context))
    return volumes


def many_secrets(arena: Arena) -> list[Volume]:
    """Return Pods that each fill a hundred Secrets."""
    data = [{"objectName": "a", "key": "value"}]
    arena.attacker.put_class(
        "hundred",
        entry("a", "bytes/100000/a", "value"),
        secret_objects=[
            {"secretName": f"s{n}", "type": "Opaque", "data": data} for n in range(100)
        ],
    )
    return [arena.attacker.pod("hundred") for _ in range(10)]


def many_files(arena: Arena) -> list[Volume]:
    """Return Pods with thousands of folders."""
    objects = [entry("/".join([f"d{n}"] * 8), "value/a", "value") for n in range(900)]
    arena.attacker.put_class("files", *objects)
    return [arena.attacker.pod("files") for _ in range(6)]


@pytest.mark.parametrize(
    "flood", [many_small, large_secrets, unknown_hosts, silent_hosts, many_secrets, many_files]
)
async def test_flood_of_pods_delays_nobody_else(
    arena: Arena, flood: Callable[[Arena], list[Volume]]
) -> None:
    """Whatever the Pods of the attacker carry, and however many there are."""
    volumes = flood(arena)
    async with arena.attack():
        await arena.publish_repeatedly(volumes, seconds=3)
