"""bench/soak.py: what counts as growth, and how failures are grouped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

from bench.processes import leaves, process_usage
from bench.soak import ALLOWED_GROWTH, LABELS, Failure, failure_table, growth


def test_growth_compares_the_second_with_the_last_quarter() -> None:
    """The first quarter, in which pools and caches fill, does not count."""
    memory = [10.0, 90.0, 50.0, 52.0, 70.0, 70.0, 60.0, 64.0]
    samples = [dict.fromkeys(ALLOWED_GROWTH, one) for one in memory]
    assert dict.fromkeys(ALLOWED_GROWTH, (51.0, 62.0)) == growth(samples)
    assert set(LABELS) == set(ALLOWED_GROWTH)


def test_failures_are_listed_by_frequency() -> None:
    """One row for each kind."""
    rare, frequent = Failure("none", "again", "a|b"), Failure("20 answers 503", "first", "c")
    lines = failure_table(Counter({rare: 1, frequent: 7})).splitlines()
    assert ["| 7 | 20 answers 503 | first | c |", "| 1 | none | again | a/b |"] == lines[-2:]


def test_usage_and_leaves_cover_all_descendants() -> None:
    """A child with a child of its own, which is the only leaf."""
    inner = (
        f"import subprocess; subprocess.Popen([{sys.executable!r}, '-S', '-c', {_WAIT!r}]).wait()"
    )
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    grandchild = int(child.stdout.readline())
    try:
        assert [grandchild] == leaves(child.pid)
        usage = process_usage([child.pid])
        assert 2 == usage.processes
        assert usage.threads >= 2
        assert usage.rss_mib > process_usage([grandchild]).rss_mib
    finally:
        child.stdin.close()
        child.wait()
        child.stdout.close()
    assert 0 == process_usage([child.pid]).processes
    assert os.getpid() not in leaves(os.getpid())


_WAIT = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
