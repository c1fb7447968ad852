"""The published upstream programs: driver, Azure provider and OpenBao provider."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TOOLS = Path(__file__).parents[2] / "scripts" / "tools.sh"


@dataclass(frozen=True)
class UpstreamPrograms:
    """Paths of the programs.

    Attributes:
        driver: the driver.
        azure: the Azure provider.
        openbao: the OpenBao provider; "" if neither its source nor a built program is available.
    """

    driver: str
    azure: str
    openbao: str = ""


def built_upstream() -> UpstreamPrograms:
    """Build whatever is missing: minutes the first time, an instant afterwards."""
    return UpstreamPrograms(
        driver=_built("upstream-driver"),
        azure=_built("upstream-azure"),
        openbao=_built("upstream-openbao", required=False),
    )


@cache
def _built(name: str, *, required: bool = True) -> str:
    run = subprocess.run([str(_TOOLS), name], stdout=subprocess.PIPE, text=True, check=required)
    return run.stdout.strip()
