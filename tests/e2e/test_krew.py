"""The kubectl plugin, from its archive to an installation by krew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts.plugin import OUTPUT, PROGRAM, ROOT, archive_name, this_platform, version

pytestmark = pytest.mark.timeout(900)


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a program, and return what it printed."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_krew_installs_the_archive(tmp_path: Path) -> None:
    """The validator of krew's index accepts the manifest, and the plugin needs no Python."""
    run("make", "plugin")
    run(sys.executable, "-m", "scripts.plugin", "manifest")
    archive = OUTPUT / archive_name(version(), this_platform())
    manifest = OUTPUT / "keyferry.yaml"
    run(run("scripts/tools.sh", "validate-krew-manifest").strip(), f"--manifest={manifest}",
        "--skip-install")  # fmt: skip

    env = {"KREW_ROOT": str(tmp_path), "KREW_NO_UPGRADE_CHECK": "1", "PATH": "/usr/bin:/bin"}
    krew = run("scripts/tools.sh", "krew").strip()
    run(krew, "install", f"--manifest={manifest}", f"--archive={archive}",
        env=env | {"HOME": os.environ["HOME"]})  # fmt: skip

    installed = tmp_path / "bin" / PROGRAM
    bare = {"PATH": "/nowhere", "LC_ALL": "C.UTF-8"}
    assert f"version            {version()}\n" in run(installed, "version", env=bare)
    example = ROOT / "examples" / "secret-sync" / "azure.yaml"
    assert "" == run(installed, "lint", example, env=bare)
    assert "status " in run(installed, "--help", env=bare)
