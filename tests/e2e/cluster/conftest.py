"""The tests on a cluster run only when they are asked for: a cluster takes minutes to build."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave this folder out of `pytest tests/e2e`; `make e2e-cluster` names it."""
    here = Path(__file__).parent
    asked_for = any(here.name in argument for argument in config.args)
    return None if asked_for or here not in collection_path.parents else True
