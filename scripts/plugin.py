"""Make the archives of the kubectl plugin, and its manifest for krew.

    python -m scripts.plugin build       the archive for this platform, in build/plugin
    python -m scripts.plugin manifest    build/plugin/keyferry.yaml, for all archives in that folder

krew installs archives with a program and cannot install Python packages. Keyferry has compiled
dependencies, so each archive contains Python and all of them, as PyInstaller collects them. It can
only do so for the platform on which it runs.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "deploy" / "krew" / "keyferry.yaml"
OUTPUT = ROOT / "build" / "plugin"
PROGRAM = "kubectl-keyferry"
PLATFORMS = (("linux", "amd64"), ("linux", "arm64"), ("darwin", "amd64"), ("darwin", "arm64"))
"""Operating system and architecture, in the words of Go."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_VERSION = re.compile(r'^version = "(.*)"$', re.MULTILINE)
_REPOSITORY = re.compile(r'^repository = "([^"]*)"', re.MULTILINE)
_LOCKED = re.compile(r"^([a-z0-9._-]+)==", re.MULTILINE)
_ENTRY_POINT = "from keyferry.cli import plugin_main\n\nplugin_main()\n"


def version() -> str:
    """Return the version of Keyferry."""
    return _only(_VERSION, "pyproject.toml")


def repository() -> str:
    """Return the address of the repository."""
    return _only(_REPOSITORY, "pyproject.toml")


def this_platform() -> tuple[str, str]:
    """Return the platform on which this runs."""
    return sys.platform, _ARCHITECTURES[platform.machine()]


def archive_name(of_version: str, target: tuple[str, str]) -> str:
    """Return the name of the archive for a platform."""
    return f"{PROGRAM}-v{of_version}-{target[0]}-{target[1]}.tar.gz"


def build(output: Path = OUTPUT) -> Path:
    """Make the archive for this platform, and return its path."""
    output.mkdir(parents=True, exist_ok=True)
    archive = output / archive_name(version(), this_platform())
    with tempfile.TemporaryDirectory() as folder:
        entry = Path(folder, f"{PROGRAM}.py")
        entry.write_text(_ENTRY_POINT)
        subprocess.run(_pyinstaller(entry), cwd=folder, check=True)
        write_archive(archive, Path(folder, "dist", PROGRAM))
    return archive


def _pyinstaller(entry: Path) -> list[str]:
    packages = ("keyferry", *_LOCKED.findall((ROOT / "requirements/runtime.lock").read_text()))
    return [
        *(sys.executable, "-m", "PyInstaller", "--log-level=ERROR", "--onedir"),
        *(f"--name={PROGRAM}", "--collect-submodules=keyferry", "--collect-data=keyferry"),
        # Their licenses, which an archive with the packages must contain.
        *(f"--copy-metadata={package}" for package in packages),
        str(entry),
    ]


def write_archive(archive: Path, folder: Path) -> None:
    """Write the files of a folder and the license, with the same bytes for the same files."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_neutral)
        license_text = (ROOT / "LICENSE").read_bytes()
        member = tarfile.TarInfo("LICENSE")
        member.size = len(license_text)
        tar.addfile(member, io.BytesIO(license_text))


def _neutral(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def manifest(archives: Mapping[tuple[str, str], bytes], of_version: str) -> str:
    """Return the manifest for krew.

    Args:
        archives: the content of the archive of each platform.
        of_version: the version.
    """
    text = TEMPLATE.read_text().replace("@VERSION@", of_version)
    head = text.removesuffix("  platforms: []\n")
    assert head != text, f"{TEMPLATE} does not end with an empty list of platforms"
    head = "".join(line for line in head.splitlines(True) if not line.startswith("#"))
    platforms = [
        _platform(target, archives[target], of_version)
        for target in PLATFORMS
        if target in archives
    ]
    listed = yaml.safe_dump(platforms, sort_keys=False)
    return f"{head}  platforms:\n{''.join(f'    {line}' for line in listed.splitlines(True))}"


def _platform(target: tuple[str, str], archive: bytes, of_version: str) -> dict[str, Any]:
    name = archive_name(of_version, target)
    return {
        "selector": {"matchLabels": {"os": target[0], "arch": target[1]}},
        "uri": f"{repository()}/releases/download/v{of_version}/{name}",
        "sha256": hashlib.sha256(archive).hexdigest(),
        "files": [{"from": "*", "to": "."}],
        "bin": PROGRAM,
    }


def write_manifest(output: Path = OUTPUT) -> Path:
    """Write the manifest for the archives in a folder, and return its path."""
    found = version()
    archives = {
        target: path.read_bytes()
        for target in PLATFORMS
        if (path := output / archive_name(found, target)).exists()
    }
    assert archives, f"{output} has no archive of version {found}: run make plugin"
    path = output / "keyferry.yaml"
    path.write_text(manifest(archives, found))
    return path


def _only(pattern: re.Pattern[str], file: str) -> str:
    found = pattern.search((ROOT / file).read_text())
    assert found is not None
    return found[1]


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    match arguments:
        case ["build"]:
            print(build())
        case ["manifest"]:
            print(write_manifest())
        case _:
            print("Usage: python -m scripts.plugin build | manifest", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
