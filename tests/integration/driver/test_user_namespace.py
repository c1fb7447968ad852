"""The tests of tmpfs mounts, as an ordinary user who may mount in a namespace of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2] / "unit" / "driver" / "volumes" / "test_mounter.py"


@pytest.mark.namespace
def test_tmpfs_tests_pass_in_a_user_namespace() -> None:
    """An ordinary user may mount there."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "mounts"]
    done = subprocess.run(
        [*namespace, *tests, str(TESTS)], capture_output=True, text=True, check=False, timeout=200
    )
    assert 0 == done.returncode, done.stdout
    assert "passed" in done.stdout
