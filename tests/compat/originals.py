"""The Go originals, as they are published: driver and Azure provider."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_TOOLS = Path(__file__).parents[2] / "scripts" / "tools.sh"


@dataclass(frozen=True)
class Originals:
    """The paths of their programs."""

    driver: str
    azure: str


def built_originals() -> Originals:
    """Build whatever is missing: minutes the first time, an instant afterwards."""
    return Originals(
        driver=_built("driver-original"),
        azure=_built("azure-original"),
    )


def _built(name: str) -> str:
    run = subprocess.run([str(_TOOLS), name], stdout=subprocess.PIPE, text=True, check=True)
    return run.stdout.strip()
