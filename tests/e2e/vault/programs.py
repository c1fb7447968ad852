"""The programs of the servers, got by scripts/openbao.sh into the cache or from Debian."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SCRIPTS = Path(__file__).parents[3] / "scripts"


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
    bao, postgresql = _got("openbao.sh")
    return ServerPrograms(bao, postgresql)


@cache
def go_reader() -> Path:
    """Build the reader around HashiCorp's client library: a minute the first time."""
    (program,) = _got("tools.sh", "go-reader")
    return program


def _got(script: str, *arguments: str) -> list[Path]:
    command = [str(_SCRIPTS / script), *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Path(line) for line in run.stdout.split()]
