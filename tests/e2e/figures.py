"""Lines for the end of pytest's output, which people should see and no test asserts."""

from __future__ import annotations

import pytest

_LINES = pytest.StashKey[list[str]]()


def figures(config: pytest.Config) -> list[str]:
    """The lines so far, to be added to."""
    return config.stash.setdefault(_LINES, [])
