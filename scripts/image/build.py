"""Builds the layers of the image, and keeps those that seldom change."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.image.debian import ROOT, Package, package_files
from scripts.image.oci import Image, Layer, pack_folder
from scripts.image.rootfs import PACKAGES, PYTHON, STDLIB, Interpreter, normalize, stage_debian
from scripts.image.wheels import RUNTIME_LOCK, build_wheel, download, unpack

_NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}
_KEPT = 4


def default_cache() -> Path:
    """The folder that also keeps the programs of the tests."""
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("KEYFERRY_CACHE") or Path(above, "keyferry"))


def native_architecture() -> str:
    """Return Debian's name of the architecture of this machine."""
    return _NATIVE[platform.machine()]


def version() -> str:
    """Return the version of Keyferry."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def source_epoch() -> int:
    """Return SOURCE_DATE_EPOCH, or the time of the commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(_git("log", "-1", "--format=%ct") or 0)


def revision() -> str:
    """Return the commit, with `-dirty` if files differ from it; empty outside a repository."""
    commit = _git("rev-parse", "HEAD")
    return commit and commit + ("-dirty" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str:
    # In the container of a workflow, the files belong to another user.
    command = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


@dataclass(frozen=True)
class Build:
    """Builds images, with the layers that seldom change in a cache.

    Attributes:
        cache: the folder for downloads and layers.
        newer: take newer Debian packages instead of locked ones that the archive has dropped.
    """

    cache: Path
    newer: bool = False

    def image(
        self,
        architecture: str,
        *,
        epoch: int,
        labels: Mapping[str, str],
        added_locks: Sequence[Path] = (),
        added_projects: Sequence[Path] = (),
    ) -> Image:
        """Build the image for one architecture.

        Args:
            architecture: such as `amd64`.
            epoch: creation time of the image in seconds. The files have no time, so that a layer
                without changes keeps its digest.
            labels: of the image.
            added_locks: lock files of Python packages on top of the image, for tests.
            added_projects: projects on top of the image, for tests.

        Raises:
            PackagesError: a Debian package is not available.
            CalledProcessError: pip failed; it has written the reason to standard error.
        """
        with self.locked():
            layers = (
                self._debian_layer(architecture),
                self._layer_of_lock(RUNTIME_LOCK, architecture),
                self._layer_of_project(ROOT),
                *(self._layer_of_lock(each, architecture) for each in added_locks),
                *(self._layer_of_project(each) for each in added_projects),
            )
        settings = {
            "User": "0:0",
            "Entrypoint": [f"/{PYTHON}", "-I", "-B", "-m", "keyferry"],
            "Env": ["PATH=/usr/local/bin:/usr/bin"],
            "WorkingDir": "/",
            "Labels": dict(labels),
        }
        return Image(architecture, layers, settings, epoch)

    def _layer_of_project(self, project: Path) -> Layer:
        with TemporaryDirectory() as folder:
            root = Path(folder, "root")
            unpack(build_wheel(project, Path(folder, "built")), root / PACKAGES)
            return self._packed(root, PACKAGES, _name_of(project))

    def packages(self, architecture: str) -> tuple[tuple[Package, Path], ...]:
        """Return the Debian packages with their files, downloaded if they are not cached."""
        return _packages(architecture, self.cache, newer=self.newer)

    def _debian_layer(self, architecture: str) -> Layer:
        packages = self.packages(architecture)
        kept = self._kept(f"debian-{architecture}", "".join(f"{each}" for each, _ in packages))
        if not kept.exists():
            with TemporaryDirectory() as folder:
                stage_debian(Path(folder), packages)
                _write(kept, self._packed(Path(folder), STDLIB).content)
        return Layer(kept.read_bytes(), "Debian packages of requirements/image.lock")

    def wheels(self, lock: Path, architecture: str) -> list[Path]:
        """Return the wheels of a lock file, downloaded if they are not cached."""
        kept = self._kept(f"wheels-{lock.stem}-{architecture}", lock.read_text())
        if not kept.exists():
            with TemporaryDirectory(dir=kept.parent) as folder:
                download(lock, Path(folder, "wheels"), architecture=architecture)
                Path(folder, "wheels").rename(kept)
        return sorted(kept.glob("*.whl"))

    def _layer_of_lock(self, lock: Path, architecture: str) -> Layer:
        kept = self._kept(f"{lock.stem}-{architecture}", lock.read_text())
        if not kept.exists():
            with TemporaryDirectory() as folder:
                for wheel in self.wheels(lock, architecture):
                    unpack(wheel, Path(folder, PACKAGES))
                _write(kept, self._packed(Path(folder), PACKAGES).content)
        return Layer(kept.read_bytes(), f"Python packages of requirements/{lock.name}")

    def _packed(self, root: Path, compiled: Path, comment: str = "") -> Layer:
        interpreter = self.interpreter()
        interpreter.compile(root, compiled)
        normalize(root)
        return Layer(interpreter.compress(pack_folder(root)), comment)

    def interpreter(self) -> Interpreter:
        """Return Python of the image for this machine."""
        packages = self.packages(native_architecture())
        root = self._kept("interpreter", "".join(f"{each}" for each, _ in packages))
        if not root.exists():
            with TemporaryDirectory(dir=root.parent) as folder:
                stage_debian(Path(folder, "root"), packages)
                Path(folder, "root").rename(root)
        return Interpreter(root)

    def _kept(self, name: str, contents: str) -> Path:
        """Return the place of what is made of the given contents by this version of the code."""
        code = "".join(each.read_text() for each in sorted(Path(__file__).parent.glob("*.py")))
        digest = hashlib.sha256(f"{contents}{code}".encode()).hexdigest()
        folder = self.cache / "image"
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        return folder / f"{name}-{digest[:16]}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time: apt locks its lists, and two would only repeat the work."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / "image.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@cache
def _packages(
    architecture: str, cache_folder: Path, *, newer: bool
) -> tuple[tuple[Package, Path], ...]:
    """Ask for the packages once in a process, so later builds need no network."""
    return package_files(architecture, cache_folder, newer=newer)


def source_repository() -> str:
    """Return the address of the repository, which only pyproject.toml contains."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return str(content["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"])


def labels() -> dict[str, str]:
    """Return the labels of the image (https://specs.opencontainers.org/image-spec/annotations)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = {
        "title": "Keyferry",
        "description": project["description"],
        "version": project["version"],
        "licenses": project["license"],
        "source": source_repository(),
        "revision": revision(),
    }
    return {f"org.opencontainers.image.{name}": text for name, text in found.items() if text}


def _name_of(project: Path) -> str:
    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    return f"{described['name']} {described['version']}"


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    building = path.with_suffix(".building")
    building.write_bytes(content)
    building.rename(path)
