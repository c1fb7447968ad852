"""What every end-to-end test shares: root, and a node that ends with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from keyferry.driver.mounts import can_mount
from tests.e2e.node import Node, running_node


@pytest.fixture(autouse=True)
def right_to_mount() -> None:
    """These tests mount a tmpfs; without the right to do so they fail, they do not skip."""
    if not can_mount():
        pytest.fail("the end-to-end tests mount volumes: run them as root (CAP_SYS_ADMIN)")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node with a development vault; the test starts the driver."""
    async with running_node(tmp_path) as running:
        yield running
