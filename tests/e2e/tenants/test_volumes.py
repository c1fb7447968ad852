"""Volumes whose paths are extreme."""

from __future__ import annotations

import pytest

from tests.e2e.tenants.arena import Arena
from tests.e2e.vault.classes import entry


@pytest.mark.parametrize("folders", [33, 1200, 2000])
async def test_deep_path_cannot_block_the_removal_of_a_pod(arena: Arena, folders: int) -> None:
    """Either it is refused or it can be unpublished; nothing remains."""
    path = "/".join(["d"] * folders) + "/x"
    arena.attacker.put_class("deep", entry(path, "value/a", "value"))
    volume = arena.attacker.pod("deep")
    async with arena.attack():
        error = await arena.publish(volume)
        assert "" == await arena.unpublish(volume)
    assert [] == arena.left_overs(volume)
    assert error
    assert "internal error" not in error


async def test_many_paths_at_the_limits_can_be_unpublished(arena: Arena) -> None:
    """1,000 folders of the greatest accepted depth."""
    objects = [entry("/".join([f"d{n}"] * 32), f"value/{n}", "value") for n in range(1000)]
    arena.attacker.put_class("wide", *objects)
    volume = arena.attacker.pod("wide")
    async with arena.attack():
        error = await arena.publish(volume)
        assert "" == await arena.unpublish(volume)
    assert [] == arena.left_overs(volume)
    assert "internal error" not in error
