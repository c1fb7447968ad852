"""Measured figures for the end of pytest's output, which no test asserts."""

from __future__ import annotations

import pytest

_LINES = pytest.StashKey[list[str]]()


def figures(config: pytest.Config) -> list[str]:
    """Return the list of lines, to which callers append."""
    return config.stash.setdefault(_LINES, [])
