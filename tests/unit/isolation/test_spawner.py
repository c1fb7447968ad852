"""The spawner imports what only its children need, while the driver goes on."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, sys, time
from keyferry.isolation.spawner import Spawner

read, write = os.pipe()

def preload():
    os.write(write, str(os.getpid()).encode())
    if sys.argv[1] == "broken":
        raise ImportError("a value")
    if sys.argv[1] == "slow":
        time.sleep(120)

spawner = Spawner({}, preload)
assert int(os.read(read, 20)) != os.getpid()
if sys.argv[1] == "slow":
    os.kill(os.getpid(), signal.SIGKILL)
while sys.argv[1] == "broken" and spawner.problem() is None:
    time.sleep(0.01)
print(spawner.problem())
spawner.close()
"""


def _run(*arguments: str) -> tuple[str, str]:
    run = _finished(*arguments)
    run.check_returncode()
    return run.stdout.strip(), run.stderr


def _finished(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Fork in a process of its own, because pytest has threads. Wait for the end of both."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_modules_of_the_children_are_imported_in_the_spawner() -> None:
    assert ("None", "") == _run("fine")


def test_a_spawner_that_cannot_import_them_ends() -> None:
    """Then the driver is unhealthy, and kubelet restarts it."""
    problem, log = _run("broken")
    assert "the process that starts child processes has ended" == problem
    assert "ImportError" in log
    assert "a value" not in log


def test_a_spawner_ends_with_a_killed_driver() -> None:
    """While it imports the modules, too. Its outputs are those of the driver, so both end."""
    assert -signal.SIGKILL == _finished("slow").returncode
