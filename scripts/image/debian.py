"""The Debian packages of the image: locked, downloaded with apt, and extracted.

apt works in folders of its own, so nothing on the machine changes and no root access is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "image.lock"
WANTED = ROOT / "requirements" / "image.in"
ARCHITECTURES = ("amd64", "arm64")
RELEASE = "Debian 12 (bookworm)"
_HEADER = f"# The Debian packages of the image, from {RELEASE}. Written by: make lock-image\n"
_SOURCES = "KEYFERRY_APT_SOURCES"


class PackagesError(Exception):
    """A Debian package is not available, or is not the locked one."""


@dataclass(frozen=True, order=True)
class Package:
    """A Debian package at one version.

    Attributes:
        name: such as `libc6`.
        version: such as `2.36-9+deb12u14`.
        architecture: `amd64`, `arm64` or `all`.
        sha256: hash of the package file.
    """

    name: str
    version: str
    architecture: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.architecture} sha256:{self.sha256}"


def locked_packages(architecture: str, lock: Path = LOCK) -> tuple[Package, ...]:
    """Read the packages of one architecture from the lock file."""
    lines = lock.read_text().splitlines()
    found = re.compile(r"(\S+) (\S+) (\S+) sha256:([0-9a-f]{64})")
    packages = [Package(*match.groups()) for match in map(found.fullmatch, lines) if match]
    return tuple(each for each in packages if each.architecture in {architecture, "all"})


def write_lock(cache: Path, lock: Path = LOCK) -> None:
    """Lock the newest versions that apt offers of the packages in requirements/image.in."""
    found: set[Package] = set()
    for architecture in ARCHITECTURES:
        apt = Apt(cache, architecture)
        apt.update()
        found.update(map(apt.newest, wanted_names()))
    lock.write_text(_HEADER + "".join(f"{each}\n" for each in sorted(found)))


def wanted_names() -> tuple[str, ...]:
    """Return the names of the packages in requirements/image.in."""
    lines = (line.partition("#")[0].strip() for line in WANTED.read_text().splitlines())
    return tuple(line for line in lines if line)


def package_files(
    architecture: str, cache: Path, *, newer: bool = False
) -> tuple[tuple[Package, Path], ...]:
    """Return the packages of the image with their files, downloaded if they are not cached.

    Args:
        architecture: such as `amd64`.
        cache: the folder that keeps package files and apt's lists.
        newer: if the archive has dropped a locked version, take its newest instead. Debian
            removes old versions from its mirrors after an update.

    Raises:
        PackagesError: a package cannot be downloaded, or has another hash than the locked one.
    """
    apt = Apt(cache, architecture)
    packages = locked_packages(architecture)
    if newer:
        return tuple(map(apt.file_or_newer, packages))
    return tuple((package, apt.file_of(package)) for package in packages)


class Apt:
    """apt with lists and downloads in the cache, for one architecture.

    It reads the sources of this machine, which must be those of Debian 12, or the file that
    KEYFERRY_APT_SOURCES names.
    """

    def __init__(self, cache: Path, architecture: str) -> None:
        self._folder = cache / "debian"
        self._lists = cache / "debian" / f"lists-{architecture}"
        self._architecture = architecture
        self._updated = False

    def file_of(self, package: Package) -> Path:
        """Return the file of a package, with the hash of the package."""
        kept = self._folder / f"{package.sha256}.deb"
        if kept.exists():
            return kept
        self.update()
        building = self._folder / "building"
        building.mkdir(parents=True, exist_ok=True)
        try:
            wanted = f"{package.name}={package.version}"
            self._run("apt-get", "--quiet=2", "download", wanted, folder=building)
            (made,) = building.glob("*.deb")
            digest = hashlib.sha256(made.read_bytes()).hexdigest()
            if digest != package.sha256:
                message = f"{made.name} has the hash sha256:{digest}; expected: {package}."
                raise PackagesError(message)
            made.rename(kept)
        except subprocess.CalledProcessError as error:
            message = (
                f"{package.name} {package.version} ({self._architecture}) cannot be downloaded: "
                f"{error.stderr.strip() or error}. If Debian has replaced this version, update the "
                "lock file: make lock-image."
            )
            raise PackagesError(message) from None
        finally:
            shutil.rmtree(building)
        return kept

    def file_or_newer(self, package: Package) -> tuple[Package, Path]:
        """Return the package with its file, or the newest version if it cannot be had."""
        try:
            return package, self.file_of(package)
        except PackagesError as error:
            newest = self.newest(package.name)
            if newest == package:
                raise
            print(f"{error} Instead: {newest}", file=sys.stderr)
            return newest, self.file_of(newest)

    def newest(self, name: str) -> Package:
        """Return the newest version of a package that the archive offers."""
        self.update()
        shown = self._run("apt-cache", "show", "--no-all-versions", name)
        fields = dict(re.findall(r"^([\w-]+): (.*)$", shown, re.MULTILINE))
        return Package(name, fields["Version"], fields["Architecture"], fields["SHA256"])

    def update(self) -> None:
        """Fetch the signed lists of the archive, once."""
        if self._updated:
            return
        must_be_debian()
        for folder in (self._lists / "partial", self._lists / "cache" / "archives" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        retry = str(ROOT / "scripts" / "retry.sh")
        self._run(retry, "apt-get", "--quiet=2", "update", "--error-on=any")
        self._updated = True

    def _run(self, *command: str, folder: Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._configuration()), "LC_ALL": "C"}
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        return run.stdout

    def _configuration(self) -> Path:
        settings = {
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::State": str(self._lists),
            "Dir::State::Lists": str(self._lists),
            "Dir::State::status": "/dev/null",
            "Dir::Cache": str(self._lists / "cache"),
        }
        if sources := os.environ.get(_SOURCES):
            settings |= {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "-"}
        self._lists.mkdir(parents=True, exist_ok=True)
        path = self._lists / "apt.conf"
        path.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
        return path


def must_be_debian(described: Path = Path("/etc/os-release")) -> None:
    """Check that the sources of this machine are those of the image.

    Raises:
        PackagesError: they are not, and KEYFERRY_APT_SOURCES names no others.
    """
    release = set(described.read_text().splitlines())
    if _SOURCES not in os.environ and not release >= {"ID=debian", 'VERSION_ID="12"'}:
        message = (
            f"The image is made of packages of {RELEASE}, and this machine is another system. Set "
            f"{_SOURCES} to a sources.list of {RELEASE}, or build on a base image: podman build ."
        )
        raise PackagesError(message)


def extract(file: Path, folder: Path) -> None:
    """Extract the files of a package; run none of its scripts."""
    subprocess.run(["dpkg-deb", "--extract", file, folder], check=True)


def control_of(file: Path) -> str:
    """Return the description of a package, as `/var/lib/dpkg/status` lists it."""
    run = subprocess.run(["dpkg-deb", "--field", file], capture_output=True, text=True, check=True)
    return run.stdout
