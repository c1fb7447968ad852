"""The programs of the servers, got by scripts/openbao.sh into the cache or from Debian."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SCRIPT = Path(__file__).parents[3] / "scripts" / "openbao.sh"


@dataclass(frozen=True)
class ServerPrograms:
    """Where the programs are.

    Attributes:
        bao: server and command line of OpenBao.
        postgresql: the folder of initdb, postgres and psql.
    """

    bao: Path
    postgresql: Path


@cache
def server_programs() -> ServerPrograms:
    """Get whatever is missing: seconds the first time, an instant afterwards."""
    run = subprocess.run([str(_SCRIPT)], stdout=subprocess.PIPE, text=True, check=True)
    bao, postgresql = run.stdout.split()
    return ServerPrograms(Path(bao), Path(postgresql))
