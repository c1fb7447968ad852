"""A command that waits long says what for, and ends after --timeout."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from keyferry.cli.local import progress
from keyferry.cli.local.progress import with_progress
from keyferry.errors import ConnectionFailedError, Stage
from keyferry.providers.emulator import EmulatorCommands
from keyferry.resilience.waiting import waiting_for

LINE = "identity: waiting for a token from login.test (status 503) (0 s)"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_UPDATE_SECONDS", 0.001)


async def slow(seconds: float) -> str:
    """Wait for a token endpoint that fails."""
    with waiting_for(Stage.IDENTITY, "login.test") as wait:
        wait.problem = "status 503"
        await asyncio.sleep(seconds)
    return "done"


async def test_one_line_outside_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "done" == await with_progress(slow(0.05), timeout=None)
    assert ("", f"{LINE}\n") == capsys.readouterr()


async def test_a_terminal_shows_a_line_that_is_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    await with_progress(slow(0.05), timeout=None)
    shown = capsys.readouterr().err.split("\r\x1b[K")
    assert ("", LINE[:29], "") == (shown[0], shown[1], shown[-1])
    assert len(shown) > 3


async def test_a_fast_command_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SLOW_SECONDS", 60.0)
    await with_progress(slow(0), timeout=60)
    assert ("", "") == capsys.readouterr()


async def test_a_timeout_names_stage_and_host_after_the_cleanup() -> None:
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await slow(60)
        finally:
            await asyncio.sleep(0)
            cleaned = True

    with pytest.raises(ConnectionFailedError) as caught:
        await with_progress(work(), timeout=0.01)
    assert cleaned
    assert Stage.IDENTITY is caught.value.stage
    assert "within 0.01 s (--timeout); it was waiting for a token from login.test (status 503)" in (
        caught.value.problem
    )
    assert "a longer --timeout" in caught.value.remedy


async def test_a_timeout_with_a_development_vault_names_its_command() -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        await with_progress(slow(60), timeout=0.01, emulator=EmulatorCommands(Path("dv")))
    assert "keyferry devvault tune --clear --data dv" in caught.value.remedy


async def test_an_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await with_progress(fail(), timeout=60)


async def test_a_cancelled_command_cancels_its_work() -> None:
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    task = asyncio.create_task(with_progress(work(), timeout=None))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()
