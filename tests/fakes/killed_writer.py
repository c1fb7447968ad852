"""Kills the atomic writer in every state of the files that a kill could leave, one fork each.

python -m tests.fakes.killed_writer FOLDER SCENARIO

A first child records, before each line of the writer and each call into the file system, whether
the files have changed. Then a child dies at each of these steps, in `FOLDER/<number>`. Runs as a
process of its own, because only a process with one thread may fork.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from keyferry.content import SecretFile
from keyferry.driver.volumes import atomic_writer
from keyferry.driver.volumes.atomic_writer import write_volume

Scenario = tuple[tuple[SecretFile, ...] | None, tuple[SecretFile, ...]]
KILLED_EXIT_CODE = 9

OLD = (
    SecretFile("same", 0o644, b"same"),
    SecretFile("changed", 0o600, b"old"),
    SecretFile("removed", 0o644, b"removed"),
    SecretFile("d/removed", 0o644, b"removed"),
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
    """Kill one child in each state of the files, let one survive, and print how many died."""
    observed = folder / "observed"
    _prepare(observed, scenario)
    _run_child(lambda: _record_states(observed), observed, scenario)
    steps = json.loads(_steps_file(observed).read_text())
    for number, step in enumerate([*steps, None]):
        root = folder / str(number)
        _prepare(root, scenario)
        code = _run_child(lambda step=step: _kill_at(step), root, scenario)  # type: ignore[misc]
        assert code == (0 if step is None else KILLED_EXIT_CODE)
    sys.stdout.write(str(len(steps)))
    return 0


def _prepare(root: Path, scenario: Scenario) -> None:
    root.mkdir()
    if scenario[0] is not None:
        write_volume(root, scenario[0])


def _run_child(set_up: Callable[[], Callable[[], None]], root: Path, scenario: Scenario) -> int:
    """Write in a child and return its exit code.

    Args:
        set_up: called in the child before it writes; returns what to call afterwards.
        root: the volume.
        scenario: what to write.
    """
    child = os.fork()
    if not child:
        finish = set_up()
        write_volume(root, scenario[1])
        finish()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _kill_at(step: int | None) -> Callable[[], None]:
    """Exit before this step; never if it is None."""
    left = -1 if step is None else step

    def count_down() -> None:
        nonlocal left
        if left == 0:
            os._exit(KILLED_EXIT_CODE)
        left -= 1

    _call_before_each_step(count_down)
    return lambda: None


def _record_states(root: Path) -> Callable[[], None]:
    """Record the first step in each state of the files: a kill at another step leaves the same."""
    steps: list[int] = []
    number, last, busy = 0, None, False

    def compare() -> None:
        nonlocal number, last, busy
        if busy:
            return
        busy = True
        if (state := _state(root)) != last:
            steps.append(number)
            last = state
        number += 1
        busy = False

    def save() -> None:
        nonlocal busy
        busy = True
        _steps_file(root).write_text(json.dumps(steps))

    _call_before_each_step(compare)
    return save


def _state(root: Path) -> list[tuple[object, ...]]:
    """Return all that a kill leaves: names, modes, owners, sizes and links."""
    found: list[tuple[object, ...]] = []
    for path in sorted([root, *root.rglob("*")]):
        about = path.lstat()
        link = str(path.readlink()) if path.is_symlink() else None
        found.append((path, about.st_ino, about.st_mode, about.st_gid, about.st_size, link))
    return found


def _steps_file(root: Path) -> Path:
    return root.with_name("steps.json")


def _call_before_each_step(step: Callable[[], None]) -> None:
    """Call `step` before each line of the writer and each of its calls into the file system."""

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
