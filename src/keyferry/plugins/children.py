"""The parser, a child process that reads the bytes of tenants, and the jobs that it runs."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from keyferry.isolation.parser import run_parser
from keyferry.isolation.sandbox import Sandbox
from keyferry.isolation.spawner import ChildProgram
from keyferry.plugins.derivation import DERIVED_FILES
from keyferry.process import can_mount
from keyferry.providers.emulator import load_emulator
from keyferry.providers.registry import parse_jobs
from keyferry.secrets.jobs import SECRET_DATA
from keyferry.telemetry.logs import get_logger

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from keyferry.aio.jobs import ParseJob
    from keyferry.providers.emulator import Emulator

PARSER_UID = 65502
"""The user of the parser. Nothing else on a node should have it."""
_MEBIBYTE = 1 << 20
_log = get_logger("driver")


def open_emulator(data_folder: Path) -> Emulator:
    """Return the development vault with this data folder, and log a warning that it is in use.

    Raises:
        PlatformError: the emulator is not installed, or none runs with this data folder.
    """
    emulator = load_emulator(data_folder)
    _log.warning(
        "DEVELOPMENT: every call to a vault or a token endpoint goes to the development vault",
        address="{}:{}".format(*emulator.https_address),
        trusted_ca=emulator.ca_file,
    )
    return emulator


def all_jobs() -> dict[str, ParseJob[Any, Any]]:
    """Return the parse jobs of all providers, and those of the driver, by name."""
    own: tuple[ParseJob[Any, Any], ...] = (SECRET_DATA, DERIVED_FILES)
    return {**parse_jobs(), **{job.name: job for job in own}}


def parser_program(hidden: tuple[Path, ...] = (), *, imports_jobs: bool = True) -> ChildProgram:
    """Return the program of the parser.

    Args:
        hidden: folders that it cannot see.
        imports_jobs: whether the jobs are imported now; false if the spawner imports them.
    """
    if imports_jobs:
        all_jobs()
    sandbox = Sandbox(
        uid=PARSER_UID if can_mount() else None,
        network=False,
        hidden=hidden,
        limits={
            resource.RLIMIT_DATA: 192 * _MEBIBYTE,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_NOFILE: 64,
        },
    )
    return ChildProgram(sandbox, _run_parser)


def _run_parser(connection: socket.socket) -> None:
    run_parser(connection, all_jobs())
