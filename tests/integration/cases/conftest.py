"""Fixtures of the cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.cases.world import World, running_world


@pytest.fixture
async def world(mount_home: Path) -> AsyncIterator[World]:
    """Yield both vaults; everything that is mounted is unmounted after the test."""
    async with running_world(mount_home) as world:
        yield world
