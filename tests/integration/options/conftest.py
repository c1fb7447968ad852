"""A node for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.options.option_node import OptionNode, running_node


@pytest.fixture
async def node(mount_home: Path) -> AsyncIterator[OptionNode]:
    """A driver with a vault."""
    async with running_node(mount_home) as running:
        yield running
