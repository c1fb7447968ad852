"""`keyferry demo`: the whole walk, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.fakes.cli import run_cli, start_cli
from tests.fakes.mounts import mounted_below

RECORDING = Path(__file__).parents[2] / "docs" / "images" / "demo.svg"
CHANGING = re.compile(r"keyferry-demo[-\w]*|\b\d+\b|sha256 [0-9a-f]{8}")
"""Numbers, and the random parts of what the demo prints."""


@pytest.fixture
def stage(mount_home: Path) -> dict[str, str]:
    """An environment whose temporary folder is the test's own, so that leftovers are seen."""
    return {**os.environ, "TMPDIR": str(mount_home)}


def _processes(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def _assert_nothing_left(folder: Path) -> None:
    assert [] == list(folder.iterdir())
    assert [] == mounted_below(folder)
    assert [] == _processes(folder)


async def test_demo_completes_and_cleans_up(tmp_path: Path, stage: dict[str, str]) -> None:
    """All steps, file and Secret follow the rotation, and no process, mount or file stays."""
    done = await run_cli("demo", env=stage)

    assert 0 == done.exit_code, done.stdout + done.stderr
    for step in (
        "call NodePublishVolume at unix:$DEMO/csi/csi.sock",
        "0644  SECRET_1  ********",
        "Secret sqlserver, key dbpassword: ********",
        "File and Secret contain the new version.",
        "File, mount, Secret and pod status are removed.",
        "Done in",
    ):
        assert step in done.stdout
    assert "demo-" not in done.stdout.replace("keyferry-demo-", "")
    assert "\x1b" not in done.stdout
    _assert_nothing_left(tmp_path)


async def test_demo_prints_values_with_show_values(tmp_path: Path, stage: dict[str, str]) -> None:
    """--show-values prints the demo's own values, the same in vault, file and Secret."""
    done = await run_cli("demo", "--show-values", env=stage)

    values = [line.split()[-1] for line in done.stdout.splitlines() if line.split()[-1:] != []]
    shown = [value for value in values if value.startswith("demo-")]
    assert 6 == len(shown)
    assert 1 == len(set(shown[:3]))
    assert 1 == len(set(shown[3:]))
    assert shown[0] != shown[3]
    assert "********" not in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("until", ["1.", "3.", "5.", "6.", "8.", "11.", "13."])
async def test_interrupted_demo_cleans_up(
    tmp_path: Path, stage: dict[str, str], until: str, number: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM in any step: no process, no mount, no file."""
    process = await start_cli("demo", env={**stage, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout
        async with asyncio.timeout(100):
            while not (await process.stdout.readline()).startswith(until.encode()):
                assert not process.stdout.at_eof()
            process.send_signal(number)
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 130 == process.returncode, out.decode() + err.decode()
    assert "Interrupted." in err.decode()
    _assert_nothing_left(tmp_path)


INTERRUPTED_IMPORT = """
import sys
from keyferry_devvault.demo.environment import Interrupts
Interrupts()
try:
    exec("import os, signal; os.kill(os.getpid(), signal.SIGTERM); [None for _ in range(1000)]")
except KeyboardInterrupt:
    sys.exit(130)
"""
"""Imports execute strings, such as the methods of data classes."""


async def test_interrupt_during_an_import_has_the_same_exit_code(tmp_path: Path) -> None:
    """CPython ends with SIGINT after a KeyboardInterrupt in a string, also if it was handled."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED_IMPORT)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "interrupted", cwd=tmp_path
    )
    assert 130 == await process.wait()


async def test_demo_works_with_a_long_temporary_path(tmp_path: Path, stage: dict[str, str]) -> None:
    """A socket path has at most 107 bytes; the demo then plays in /tmp."""
    long = tmp_path / ("x" * 100)
    long.mkdir()

    done = await run_cli("demo", env={**stage, "TMPDIR": str(long)})

    assert 0 == done.exit_code, done.stdout + done.stderr
    assert "DEMO=/tmp/keyferry-demo-" in done.stdout
    assert [] == list(long.iterdir())


async def test_the_recording_shows_what_the_demo_prints(stage: dict[str, str]) -> None:
    """After a change of the demo, `make recording` makes it again. Long lines are wrapped in it."""
    done = await run_cli("demo", env=stage)
    recorded = ET.parse(RECORDING).iter("{http://www.w3.org/2000/svg}text")
    shown = {CHANGING.sub("", text.text or "").rstrip() for text in recorded}
    printed = [line for line in done.stdout.splitlines() if line and len(line) <= 100]
    lines = [line.replace(stage["TMPDIR"], "/tmp") for line in printed]
    assert 40 < len(lines)
    assert [] == [line for line in lines if CHANGING.sub("", line).rstrip() not in shown]


async def _kept(stage: dict[str, str]) -> tuple[Path, list[str]]:
    """Start a demo and keep it; return its folder and the commands that it prints."""
    done = await run_cli("demo", "--keep", env=stage)
    assert 0 == done.exit_code, done.stdout + done.stderr
    (folder,) = re.findall(r"^DEMO=(\S+)$", done.stdout, re.MULTILINE)
    return Path(folder), re.findall(r"^ +\$ (.+)$", done.stdout, re.MULTILINE)


async def _shell(script: str, environment: dict[str, str]) -> tuple[int | None, str]:
    """Run a script in a shell that finds `keyferry`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script),
        env=environment | {"PATH": path},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_every_printed_command_of_a_kept_demo_works(
    tmp_path: Path, stage: dict[str, str]
) -> None:
    """In the printed order, in any shell in which DEMO is set; the last one removes everything."""
    folder, commands = await _kept(stage)
    try:
        assert _processes(folder)
        set_variable = f"DEMO={folder}"
        stop = f"keyferry demo --stop {folder}"
        assert {set_variable, stop} < set(commands)
        assert 13 == len(commands)
        outputs = {}
        for command in commands:
            status, outputs[command] = await _shell(f"{set_variable}\n{command}", stage)
            assert 0 == status, f"{command}: {outputs[command]}"
            if command.startswith("cat "):
                assert "kind: Secret" in outputs[command]
            elif command.startswith("ls "):
                assert "SECRET_1" in outputs[command]
        assert stop == commands[-1]
        assert f"Stopped the demo and removed {folder}." in outputs[stop]
    finally:
        await _shell(f"keyferry demo --stop {folder}", stage)
    _assert_nothing_left(tmp_path)


async def test_a_kept_demo_is_stopped_after_its_processes_have_died(
    tmp_path: Path, stage: dict[str, str]
) -> None:
    """Such as after a reboot of a laptop; the volume is unmounted all the same."""
    folder, _ = await _kept(stage)
    pids = re.findall(r": (\d+)", (folder / "processes.json").read_text())
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    done = await run_cli("demo", "--stop", str(folder), env=stage)
    assert 0 == done.exit_code, done.stderr
    _assert_nothing_left(tmp_path)


async def test_stop_refuses_other_folders(tmp_path: Path, stage: dict[str, str]) -> None:
    """Nothing is removed."""
    (tmp_path / "mine").touch()
    done = await run_cli("demo", "--stop", str(tmp_path), env=stage)
    assert 0 != done.exit_code
    assert "is not the folder of a demo that was started with --keep" in done.stderr
    assert (tmp_path / "mine").exists()
