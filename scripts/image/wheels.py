"""The Python packages of the image: locked wheels, unpacked, and the wheel of this repository."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from scripts.image.debian import ROOT

RUNTIME_LOCK = ROOT / "requirements" / "runtime.lock"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC_MINOR = 36  # of Debian 12


def download(lock: Path, folder: Path, *, architecture: str) -> None:
    """Download the wheels of a lock file for CPython 3.11 on Debian 12; pip checks the hashes.

    Raises:
        CalledProcessError: pip failed; it has written the reason to standard error.
    """
    machine = _MACHINES[architecture]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC_MINOR, 16, -1)]
    tags += [f"manylinux{year}_{machine}" for year in (2014, 2010, 1)]
    subprocess.run(
        [
            *(str(ROOT / "scripts" / "retry.sh"), sys.executable, "-m", "pip", "download"),
            *("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
            *("--only-binary=:all:", "--implementation=cp", "--python-version=3.11"),
            *(f"--platform={tag}" for tag in tags),
            *("--dest", str(folder), "--requirement", str(lock)),
        ],
        check=True,
    )


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of a project with the locked build backend, without an index.

    Raises:
        CalledProcessError: the build failed; pip has written the reason to standard error.
    """
    folder.mkdir(parents=True)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--no-index"),
            *("--wheel-dir", str(folder), str(project)),
        ],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpack(wheel: Path, packages: Path) -> None:
    """Unpack a wheel into a folder of packages, without scripts, headers and data.

    Raises:
        ValueError: a path of the wheel leads out of the folder.
    """
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if entry.is_dir() or (place := _place_of(entry.filename)) is None:
                continue
            target = packages / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))


def _place_of(name: str) -> PurePosixPath | None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        message = f"The wheel contains the path {name}."
        raise ValueError(message)
    if not path.parts[0].endswith(".data"):
        return path
    return PurePosixPath(*path.parts[2:]) if path.parts[1] in {"purelib", "platlib"} else None
