"""A store of manifests, and the folder that it writes into."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.kubernetes.files.store import ManifestsStore
from tests.unit.kubernetes.files.folder import SteppingClock


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def store(tmp_path: Path, out: Path) -> ManifestsStore:
    (tmp_path / "classes").mkdir()
    return ManifestsStore(tmp_path / "classes", out, clock=SteppingClock())
