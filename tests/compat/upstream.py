"""The published upstream programs: driver and Azure provider."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_TOOLS = Path(__file__).parents[2] / "scripts" / "tools.sh"


@dataclass(frozen=True)
class UpstreamPrograms:
    """Paths of the programs."""

    driver: str
    azure: str


def built_upstream() -> UpstreamPrograms:
    """Build whatever is missing: minutes the first time, an instant afterwards."""
    return UpstreamPrograms(
        driver=_built("upstream-driver"),
        azure=_built("upstream-azure"),
    )


def _built(name: str) -> str:
    run = subprocess.run([str(_TOOLS), name], stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout.strip()
