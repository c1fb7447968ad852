"""Volumes whose content is large."""

from __future__ import annotations

import asyncio

from tests.e2e.tenants.arena import Arena
from tests.e2e.tenants.processes import memory_of
from tests.e2e.vault.classes import entry


async def test_large_mounts_are_refused_with_bounded_memory(arena: Arena) -> None:
    """Five Pods with 1,000 objects of 1 MB each."""
    objects = [entry(f"f{n}", f"bytes/1000000/{n}", "value") for n in range(1000)]
    arena.attacker.put_class("large", *objects)
    volumes = [arena.attacker.pod("large") for _ in range(5)]
    async with arena.attack():
        before = peak = memory_of(arena.driver.child.pid)
        attack = asyncio.create_task(arena.publish_repeatedly(volumes, seconds=4))
        while not attack.done():
            peak = max(peak, memory_of(arena.driver.child.pid))
            await asyncio.sleep(0.1)
    arena.show(f"memory {before >> 20} MiB, at most {peak >> 20} MiB")
    assert "" not in await attack
    assert peak - before < 90 << 20


async def test_volume_is_limited_to_the_size_of_its_content(arena: Arena) -> None:
    """Mount options of a volume: a size limit, and no execution of its files."""
    volume, _ = arena.victim_volume()
    async with arena.attack():
        assert "" == await arena.publish(volume)
        options = arena.mount_options(volume)
        assert "" == await arena.unpublish(volume)
    assert {"noexec", "nosuid", "nodev"} <= options
    assert [one for one in options if one.startswith("size=")]
