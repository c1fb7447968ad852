"""The wheels and sdists of `make dist`, installed by an ordinary user into empty environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts.image.debian import ROOT

TOOLS = ROOT / ".venv-tools" / "bin"
EMULATOR = ROOT / "src" / "keyferry_devvault"

pytestmark = pytest.mark.timeout(400)


def run(
    *command: str | Path, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command, which must succeed."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, f"{command}:\n{done.stdout}{done.stderr}"
    return done


def build(project: Path, folder: Path, *targets: str) -> None:
    """Build a project with the locked build backend."""
    backend = ROOT / ".venv" / "bin" / "hatchling"
    for target in targets:
        run(backend, "build", "-t", target, "-d", folder, folder=project, environment=os.environ)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist of both distributions."""
    folder = tmp_path_factory.mktemp("dist")
    for project in (ROOT, EMULATOR):
        build(project, folder, "wheel", "sdist")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose home is empty, but for what package managers downloaded."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in {"LANG", "SSL_CERT_FILE"} or name.startswith(("PIP_", "UV_")) or "proxy" in name
    }
    path = f"{tmp_path}/.local/bin:{TOOLS}:{os.defpath}"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    downloads = {"PIP_CACHE_DIR": f"{cache}/pip", "UV_CACHE_DIR": f"{cache}/uv"}
    return downloads | kept | {"HOME": str(tmp_path), "PATH": path}


def test_the_sdists_build_the_same_wheels(dist: Path, tmp_path: Path) -> None:
    """Metadata included, in a folder that has nothing of the repository."""
    for wheel in dist.glob("*.whl"):
        name = wheel.name.removesuffix("-py3-none-any.whl")
        with tarfile.open(dist / f"{name}.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        build(tmp_path / name, tmp_path / "again", "wheel")
        with ZipFile(wheel) as first, ZipFile(tmp_path / "again" / wheel.name) as second:
            assert sorted(first.namelist()) == sorted(second.namelist())
            for entry in first.namelist():
                # RECORD lists the file with the commit, which git knows, last.
                contents = [sorted(each.read(entry).splitlines()) for each in (first, second)]
                assert contents[0] == contents[1], entry


def test_package_indexes_accept_the_distributions(dist: Path) -> None:
    """Twine checks the metadata and renders the description."""
    run(TOOLS / "twine", "check", "--strict", *dist.iterdir(), folder=dist, environment=os.environ)


INSTALL = {
    "pip": (
        "{python} -m venv {home}/venv",
        "{home}/venv/bin/pip install --quiet --find-links {dist} keyferry[devvault]",
        "mkdir -p {home}/.local/bin",
        "ln -s {home}/venv/bin/keyferry {home}/.local/bin/keyferry",
    ),
    "pipx": ("pipx install --quiet --pip-args=--find-links={dist} {wheel}[devvault]",),
    "uv": ("uv tool install --quiet --find-links {dist} {wheel}[devvault]",),
}


@pytest.mark.parametrize("tool", INSTALL)
def test_the_wheel_can_be_installed(
    dist: Path, tmp_path: Path, home: dict[str, str], tool: str
) -> None:
    """`keyferry` is on the PATH, with the emulator, and the demo runs."""
    python = shutil.which("python3", path=os.environ["PATH"])
    places = {
        "dist": dist,
        "home": tmp_path,
        "python": python,
        "wheel": next(dist.glob("keyferry-*.whl")),
    }
    for command in INSTALL[tool]:
        words = [word.format_map(places) for word in command.split()]
        run(*words, folder=tmp_path, environment=home)
    found = shutil.which("keyferry", path=home["PATH"])
    assert found == str(tmp_path / ".local/bin/keyferry")
    assert run("keyferry", "--version", folder=tmp_path, environment=home).stdout.strip()
    demo = run("keyferry", "demo", folder=tmp_path, environment=home)
    assert "Done in" in demo.stdout
