"""The server programs, from scripts/openbao.sh in the cache or from Debian."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SCRIPTS = Path(__file__).parents[3] / "scripts"


@dataclass(frozen=True)
class ServerPrograms:
    """Paths of the programs.

    Attributes:
        bao: server and command line tool of OpenBao.
        postgresql: directory of initdb, postgres and psql.
    """

    bao: Path
    postgresql: Path


@cache
def server_programs() -> ServerPrograms:
    """Install missing programs. It takes seconds at the first time."""
    bao, postgresql = _got("openbao.sh")
    return ServerPrograms(bao, postgresql)


@cache
def go_reader() -> Path:
    """Build the program that uses HashiCorp's client library. It takes a minute at first."""
    (program,) = _got("tools.sh", "go-reader")
    return program


def _got(script: str, *arguments: str) -> list[Path]:
    command = [str(_SCRIPTS / script), *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Path(line) for line in run.stdout.split()]
