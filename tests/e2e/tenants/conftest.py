"""Fixtures of the attacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.e2e.tenants.arena import Arena, running_arena
from tests.e2e.vault.programs import server_programs


def pytest_configure() -> None:
    """Download the programs before the time limit of a test begins."""
    server_programs()


@pytest.fixture
async def arena(short_path: Path, show: Callable[[str], None]) -> AsyncIterator[Arena]:
    """A node that an attacker and a victim share."""
    async with running_arena(short_path / "n", show, Arena) as running:
        yield running
