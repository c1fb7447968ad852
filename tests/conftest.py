"""Shared fixtures, markers of tests that need special rights, and Hypothesis profiles."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings

from keyferry.driver.volumes.owners import can_set_owners
from keyferry.process import can_mount
from tests.fakes.mounts import mounted_below, unmount_below

MARKERS = {
    "mounts": "mounts a tmpfs, which needs the right to mount",
    "owners": "gives files to other users, which needs CAP_CHOWN",
    "fuse": "emulates a broken mount with /dev/fuse",
    "namespace": "creates a user namespace, in which an unprivileged user may mount",
}


# No test has a time limit of its own, because run times depend on the load of the machine.
settings.register_profile("quick", deadline=None)
for profile, cases in {"thorough": 10_000, "ci": 2_000}.items():
    settings.register_profile(
        profile,
        deadline=None,
        max_examples=cases,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
        print_blob=True,
    )
settings.load_profile("quick")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and let tests interrupt commands.

    A shell starts a background job with SIGINT ignored, and the commands of the tests would inherit
    this.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_report_header() -> list[str]:
    """Report which tests cannot run on this machine."""
    return [f"not run here: whatever {MARKERS[name]}" for name in sorted(_impossible())]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that cannot run on this machine; no test skips itself."""
    left_out = [
        item for item in items if _impossible() & {mark.name for mark in item.iter_markers()}
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Yield a folder with a short path, because a socket path has at most 107 bytes."""
    with TemporaryDirectory(prefix="kf-") as folder:
        yield Path(folder)


@pytest.fixture
def mount_home(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder; everything that is mounted below it is unmounted after the test."""
    try:
        yield tmp_path
    finally:
        if mounted_below(tmp_path):
            unmount_below(tmp_path)


@cache
def _impossible() -> frozenset[str]:
    checks = {
        "mounts": can_mount,
        "owners": can_set_owners,
        "fuse": _has_fuse,
        "namespace": _can_make_namespaces,
    }
    return frozenset(name for name, check in checks.items() if not check())


def _has_fuse() -> bool:
    return can_mount() and os.access("/dev/fuse", os.R_OK | os.W_OK)


def _can_make_namespaces() -> bool:
    try:
        command = ["unshare", "--user", "--map-root-user", "--mount", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
