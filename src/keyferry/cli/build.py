"""The commit that this Keyferry was built from."""

from __future__ import annotations

import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
COMMIT_FILE = _PACKAGE / "commit.txt"
"""Written by hatch_build.py; not in a checkout."""


def commit() -> str:
    """Return the commit; "" if it is unknown."""
    try:
        return COMMIT_FILE.read_text().strip()
    except OSError:
        return _checked_out(_PACKAGE.parents[1])


def _checked_out(root: Path) -> str:
    try:
        if not (root / ".git").exists():
            return ""
        run = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return run.stdout.strip()
