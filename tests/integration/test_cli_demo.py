"""`keyferry demo`: the whole walk, and what it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.fakes.cli import run_cli, start_cli
from tests.fakes.mounts import mounted_below


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
        "NodePublishVolume",
        "0644  SECRET_1  ********",
        "Secret sqlserver, key dbpassword: ********",
        "File and Secret contain the new version.",
        "File, mount, Secret and pod status are removed.",
        "Done in",
    ):
        assert step in done.stdout
    assert "demo-" not in done.stdout.replace("keyferry-demo-", "")
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


async def test_demo_works_with_a_long_temporary_path(tmp_path: Path, stage: dict[str, str]) -> None:
    """A socket path has at most 107 bytes; the demo then plays in /tmp."""
    long = tmp_path / ("x" * 100)
    long.mkdir()

    done = await run_cli("demo", env={**stage, "TMPDIR": str(long)})

    assert 0 == done.exit_code, done.stdout + done.stderr
    assert "DEMO=/tmp/keyferry-demo-" in done.stdout
    assert [] == list(long.iterdir())
