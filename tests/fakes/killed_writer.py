"""Kills the atomic writer at every point where it could be killed, one fork each.

python -m tests.fakes.killed_writer FOLDER SCENARIO

For each line of the writer and each call into the file system, a child dies just before it, in
`FOLDER/<number>`. Runs as a process of its own, because only a process with one thread may fork.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path
from types import FrameType

from keyferry.driver.volumes import atomic_writer
from keyferry.driver.volumes.atomic_writer import write_volume
from keyferry.providers.api import SecretFile

Scenario = tuple[tuple[SecretFile, ...] | None, tuple[SecretFile, ...]]
KILLED_EXIT_CODE = 9

OLD = (
    SecretFile("same", 0o644, b"same"),
    SecretFile("changed", 0o600, b"old"),
    SecretFile("gone", 0o644, b"gone"),
    SecretFile("d/gone", 0o644, b"gone"),
    SecretFile("type", 0o644, b"a file"),
    SecretFile("folder/file", 0o644, b"in a folder"),
)
NEW = (
    SecretFile("same", 0o644, b"same"),
    SecretFile("changed", 0o640, b"new"),
    SecretFile("d/new", 0o644, b"new"),
    SecretFile("type/file", 0o644, b"in a folder"),
    SecretFile("folder", 0o644, b"a file"),
    SecretFile("added", 0o444, b"added"),
)
SCENARIOS: dict[str, Scenario] = {
    "first": (None, NEW),
    "change": (OLD, NEW),
    "unchanged": (NEW, NEW),
}
"""What was there before, and what is written."""


def main(folder: Path, scenario: Scenario) -> int:
    """Kills one child after the other until one survives; writes how many died to stdout."""
    for number in count():
        root = folder / str(number)
        root.mkdir()
        before, after = scenario
        if before is not None:
            write_volume(root, before)
        child = os.fork()
        if not child:
            _die_at(number)
            write_volume(root, after)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            sys.stdout.write(str(number))
            return 0
        assert os.waitstatus_to_exitcode(status) == KILLED_EXIT_CODE
    raise AssertionError


def _die_at(number: int) -> None:
    left = number

    def step() -> None:
        nonlocal left
        if left == 0:
            os._exit(KILLED_EXIT_CODE)
        left -= 1

    def trace(frame: FrameType, event: str, _: object) -> object:
        if frame.f_code.co_filename != atomic_writer.__file__:
            return None
        if event == "line":
            step()
        return trace

    def audit(event: str, _: tuple[object, ...]) -> None:
        if event == "open" or event.startswith("os."):
            step()

    sys.addaudithook(audit)
    sys.settrace(trace)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), SCENARIOS[sys.argv[2]]))
