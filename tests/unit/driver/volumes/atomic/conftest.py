"""An empty volume."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty volume."""
    made = tmp_path / "volume"
    made.mkdir()
    return made
