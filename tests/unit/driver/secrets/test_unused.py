"""The grace periods of unused Secrets, by a clock that the test advances."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from keyferry.driver.secrets.unused import OTHER_NODE_MARGIN_SECONDS, UnusedSecrets
from tests.fakes.clock import ManualClock

KEY = ("shop", "db")
GRACE = 600.0


class Clock(ManualClock):
    """A clock whose wall time can be set.

    Attributes:
        wrong_by: added to the wall time.
    """

    wrong_by = timedelta(0)

    def wall(self) -> datetime:
        return super().wall() + self.wrong_by


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "unused-secrets.json"


def unused_secrets(clock: Clock, file: Path | None = None, jitter: float = 0.0) -> UnusedSecrets:
    return UnusedSecrets(clock, grace_period=GRACE, file=file, jitter=lambda: jitter)


async def test_period_is_counted_by_the_monotonic_clock(clock: Clock) -> None:
    """A change of the wall clock has no effect."""
    unused = unused_secrets(clock)
    await unused.start(KEY)
    clock.now += 100
    clock.wrong_by = timedelta(days=1)
    assert 500.0 == unused.remaining(KEY)
    clock.now += 600
    assert 0.0 == unused.remaining(KEY)
    unused.forget(KEY)
    assert KEY not in unused


async def test_later_start_begins_the_period_again(clock: Clock) -> None:
    """The pod terminated slowly, or another pod used the Secret meanwhile."""
    unused = unused_secrets(clock)
    await unused.start(KEY, provisional=True)
    assert unused.is_provisional(KEY)
    clock.now += 599
    await unused.start(KEY)
    assert not unused.is_provisional(KEY)
    assert GRACE == unused.remaining(KEY)


@pytest.mark.parametrize("jitter", [0.0, 1.0])
async def test_mark_of_another_node_waits_longer_than_that_node(
    clock: Clock, jitter: float
) -> None:
    """So that node acts first; the nodes after it do not act at once."""
    unused = unused_secrets(clock, jitter=jitter)
    assert unused.observe(KEY, "mark 1")
    wait = GRACE + OTHER_NODE_MARGIN_SECONDS + jitter * GRACE
    assert wait == unused.remaining(KEY)
    clock.now += 100
    assert not unused.observe(KEY, "mark 1")
    assert wait - 100 == unused.remaining(KEY)
    assert unused.observe(KEY, "mark 2")
    assert wait == unused.remaining(KEY)


@pytest.mark.parametrize(
    ("elapsed", "wrong_by", "remaining"),
    [
        (100, timedelta(0), 500.0),
        (100_000, timedelta(0), 0.0),
        (100, timedelta(days=-1), 600.0),
        (100, timedelta(days=1), 0.0),
    ],
    ids=["within the period", "after it", "clock set back", "clock set forward"],
)
async def test_period_continues_after_a_restart(
    clock: Clock, file: Path, elapsed: float, wrong_by: timedelta, remaining: float
) -> None:
    """Whatever the wall clock says, it takes between nothing and one whole period."""
    await unused_secrets(clock, file).start(KEY)
    clock.now += elapsed
    clock.wrong_by = wrong_by
    again = unused_secrets(clock, file)
    await again.load()
    assert remaining == again.remaining(KEY)
    assert {KEY} == again.tracked()


async def test_own_mark_is_not_one_of_another_node(clock: Clock, file: Path) -> None:
    """The watch reports it, also to the next process."""
    unused = unused_secrets(clock, file)
    await unused.start(KEY)
    mark = unused.mark(KEY)
    assert "2030-01-01T12:00:00+00:00" == mark
    assert not unused.observe(KEY, mark)
    again = unused_secrets(clock, file)
    await again.load()
    assert not again.observe(KEY, mark)
    assert GRACE == again.remaining(KEY)


async def test_mark_of_another_node_is_not_restored(clock: Clock, file: Path) -> None:
    """The watch reports it again."""
    unused = unused_secrets(clock, file)
    unused.observe(("shop", "other"), "mark 1")
    await unused.start(KEY)
    again = unused_secrets(clock, file)
    await again.load()
    assert {KEY} == again.tracked()


async def test_file_holds_names_and_times_for_its_owner(clock: Clock, file: Path) -> None:
    """And nothing else."""
    await unused_secrets(clock, file).start(KEY)
    assert [{"namespace": "shop", "name": "db", "since": "2030-01-01T12:00:00+00:00"}] == (
        json.loads(file.read_text())["secrets"]
    )
    assert 0o600 == file.stat().st_mode & 0o777


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"secrets": [{"since": 1}]}',
        b'{"secrets": [{"since": "soon"}]}',
        b"\xff",
    ],
    ids=str,
)
async def test_damaged_file_counts_as_empty(clock: Clock, file: Path, content: bytes) -> None:
    """The driver starts, and the next write replaces it."""
    file.write_bytes(content)
    file.chmod(0o600)
    unused = unused_secrets(clock, file)
    await unused.load()
    assert set() == unused.tracked()
    await unused.start(KEY)
    assert "db" in file.read_text()


async def test_missing_folder_is_no_error(clock: Clock, tmp_path: Path) -> None:
    """The period is kept in memory."""
    unused = unused_secrets(clock, tmp_path / "missing" / "file.json")
    await unused.load()
    await unused.start(KEY)
    assert GRACE == unused.remaining(KEY)
