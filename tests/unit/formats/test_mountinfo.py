"""The mount table of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from keyferry.formats.mountinfo import MountPoint, mount_points


def test_the_root_file_system_is_found_by_its_device() -> None:
    device = Path("/").stat().st_dev
    numbers = os.major(device), os.minor(device)
    assert any("/" == mount.path and numbers == mount.device for mount in mount_points())


def test_escaped_paths_and_optional_fields_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw\n"
        "37 35 0:22 / /run rw - tmpfs keyferry rw\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda _: lines)
    assert [
        MountPoint("/mnt 2", "/dev/root", (98, 0), "ext3"),
        MountPoint("/run", "keyferry", (0, 22), "tmpfs"),
    ] == mount_points()
