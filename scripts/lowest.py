"""Prints the lowest version of each dependency that both distributions accept, as requirements."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECTS = (ROOT / "pyproject.toml", ROOT / "src/keyferry_devvault/pyproject.toml")


def lowest_requirements() -> list[str]:
    """Return `name==version` for each dependency; each must have a lower bound."""
    requirements = {
        text
        for path in PROJECTS
        for text in tomllib.loads(path.read_text())["project"]["dependencies"]
        if not text.startswith("keyferry==")
    }
    return sorted({_lowest(text) for text in requirements})


def _lowest(requirement: str) -> str:
    match = re.fullmatch(r"([A-Za-z0-9.-]+)>=([0-9.]+)(,.*)?", requirement)
    if match is None:
        raise ValueError(f"{requirement} has no lower bound")
    return f"{match[1]}=={match[2]}"


if __name__ == "__main__":
    print("\n".join(lowest_requirements()))
