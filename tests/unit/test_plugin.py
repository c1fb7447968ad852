"""The archives of the kubectl plugin, and the manifest for krew."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import yaml

from scripts.plugin import (
    PLATFORMS,
    TEMPLATE,
    archive_name,
    manifest,
    repository,
    version,
    write_archive,
    write_manifest,
)

ROOT = Path(__file__).parents[2]
RUNNERS = {
    ("linux", "amd64"): "ubuntu-24.04",
    ("linux", "arm64"): "ubuntu-24.04-arm",
    ("darwin", "amd64"): "macos-15-intel",
    ("darwin", "arm64"): "macos-15",
}


def test_manifest_names_each_archive_with_its_checksum() -> None:
    """Below the address of the release; a platform without an archive is left out."""
    archives = {target: target[0].encode() for target in PLATFORMS[1:]}
    found = yaml.safe_load(manifest(archives, "1.2.3"))
    assert ("keyferry", "v1.2.3") == (found["metadata"]["name"], found["spec"]["version"])
    platforms = found["spec"]["platforms"]
    assert len(archives) == len(platforms)
    for each in platforms:
        labels = each["selector"]["matchLabels"]
        target = (labels["os"], labels["arch"])
        name = f"kubectl-keyferry-v1.2.3-{target[0]}-{target[1]}.tar.gz"
        assert f"{repository()}/releases/download/v1.2.3/{name}" == each["uri"]
        assert hashlib.sha256(archives[target]).hexdigest() == each["sha256"]


def test_template_has_the_address_of_the_repository() -> None:
    """And the name by which kubectl finds the plugin."""
    text = TEMPLATE.read_text()
    assert f"homepage: {repository()}\n" in text
    assert "  name: keyferry\n" in text
    short = yaml.safe_load(text)["spec"]["shortDescription"]
    assert len(short) <= 50  # krew's guide
    assert not short.endswith(".")


def test_each_platform_has_a_runner() -> None:
    """PyInstaller bundles Python only for the platform on which it runs."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())["jobs"]
    used = [
        runner
        for name in ("plugin-linux", "plugin-macos")
        for runner in jobs[name]["strategy"]["matrix"]["runner"]
    ]
    assert set(PLATFORMS) == RUNNERS.keys()
    assert sorted(RUNNERS.values()) == sorted(used)


def test_archive_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    """Without times and users, with the license and the permission to execute."""
    contents = []
    for name in ("a", "b"):
        folder = tmp_path / name
        (folder / "_internal").mkdir(parents=True)
        (folder / "_internal" / "data").write_text("x")
        program = folder / "kubectl-keyferry"
        program.write_text("y")
        program.chmod(0o775 if name == "a" else 0o700)
        write_archive(tmp_path / f"{name}.tar.gz", folder)
        contents.append((tmp_path / f"{name}.tar.gz").read_bytes())
    assert contents[0] == contents[1]
    with tarfile.open(fileobj=io.BytesIO(contents[0])) as tar:
        modes = {member.name: member.mode for member in tar}
    assert {
        "_internal": 0o755,
        "_internal/data": 0o644,
        "kubectl-keyferry": 0o755,
        "LICENSE": 0o644,
    } == modes


def test_manifest_needs_an_archive(tmp_path: Path) -> None:
    """Of the current version."""
    with pytest.raises(AssertionError, match="run make plugin"):
        write_manifest(tmp_path)
    archive = tmp_path / archive_name(version(), PLATFORMS[0])
    archive.write_bytes(b"x")
    found = yaml.safe_load(write_manifest(tmp_path).read_text())
    assert 1 == len(found["spec"]["platforms"])
