"""The spawner imports what only its children need, while the driver goes on."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys, time
from keyferry.isolation.spawner import Spawner

read, write = os.pipe()

def preload():
    os.write(write, str(os.getpid()).encode())
    if sys.argv[1] == "broken":
        raise ImportError("a value")

spawner = Spawner({}, preload)
assert int(os.read(read, 20)) != os.getpid()
while sys.argv[1] == "broken" and spawner.problem() is None:
    time.sleep(0.01)
print(spawner.problem())
spawner.close()
"""


def _run(*arguments: str) -> tuple[str, str]:
    """Fork in a process of its own, because pytest has threads."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return run.stdout.strip(), run.stderr


def test_modules_of_the_children_are_imported_in_the_spawner() -> None:
    assert ("None", "") == _run("fine")


def test_a_spawner_that_cannot_import_them_ends() -> None:
    """Then the driver is unhealthy, and kubelet restarts it."""
    problem, log = _run("broken")
    assert "the process that starts child processes has ended" == problem
    assert "ImportError" in log
    assert "a value" not in log
