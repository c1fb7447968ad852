"""The Keyferry image, built locally like `Containerfile` does, without a registry.

It also contains the emulator, because these tests run the driver with `--dev-vault`.

It has two layers: the interpreter of the tests with the locked dependencies, which is cached, and
the current source.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.cluster.images import pack_archive

KEYFERRY = "keyferry.test/keyferry:1"

_ROOT = Path(__file__).parents[3]
_LOCKS = (_ROOT / "requirements" / "runtime.lock", _ROOT / "requirements" / "devvault.lock")
_HOME = Path("usr/local")
_LIBRARY = _HOME / "lib" / f"python3.{sys.version_info.minor}"
_PACKAGES = _LIBRARY / "site-packages"
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3",
    "config-*", "site-packages", "dist-packages", "pydoc_data",
)  # fmt: skip
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


def write_keyferry_archive(path: Path, cache: Path, *, name: str = KEYFERRY) -> Path:
    """Write the archive of the image; return `path`.

    Args:
        path: of the archive.
        cache: the folder that caches the layer of the interpreter and the dependencies.
        name: the image name with its tag.
    """
    settings = {
        "Entrypoint": ["/usr/local/bin/python3", "-m", "keyferry"],
        "Env": ["PYTHONHOME=/usr/local", f"PYTHONPATH=/{_PACKAGES}", "PYTHONDONTWRITEBYTECODE=1"],
        "WorkingDir": "/",
    }
    return pack_archive(path, name, (_base_layer(cache), _source_layer()), settings)


def _base_layer(cache: Path) -> bytes:
    what = f"{sys.version}{_locked_text()}{Path(__file__).read_text()}"
    kept = cache / f"image-{hashlib.sha256(what.encode()).hexdigest()[:16]}.tar"
    if not kept.exists():
        with TemporaryDirectory(dir=cache) as folder:
            _stage(Path(folder))
            made = cache / f"{kept.name}.{hash(folder):x}"
            made.write_bytes(_layer(Path(folder)))
            made.rename(kept)
    return kept.read_bytes()


def _stage(root: Path) -> None:
    """Copy the interpreter and the dependencies below `root`."""
    interpreter = Path(sys.executable).resolve()
    (root / _HOME / "bin").mkdir(parents=True)
    shutil.copy2(interpreter, root / _HOME / "bin" / "python3")
    shutil.copytree(sysconfig.get_path("stdlib"), root / _LIBRARY, ignore=_LEFT_OUT)
    for source, place in _locked_files():
        target = root / _PACKAGES / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    programs = [interpreter, *(root / _LIBRARY).rglob("*.so*")]
    for library in _shared_libraries(programs, below=root):
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library.resolve(), target)
    for place, content in (
        ("etc/passwd", "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
        (str(_AUTHORITIES.relative_to("/")), _AUTHORITIES.read_text()),
    ):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(content)
    (root / "tmp").mkdir()
    _compile(root / _LIBRARY)


def _locked_text() -> str:
    return "".join(lock.read_text() for lock in _LOCKS)


def _locked_files() -> Iterator[tuple[Path, str]]:
    """Yield the files of the locked dependencies, with their paths below site-packages."""
    for name in sorted(set(re.findall(r"^([A-Za-z0-9._-]+)==", _locked_text(), re.MULTILINE))):
        for file in distribution(name).files or ():
            if not str(file).startswith("..") and "__pycache__" not in file.parts:
                yield Path(str(file.locate())), str(file)


def _shared_libraries(programs: list[Path], *, below: Path) -> set[Path]:
    """Return the system libraries that the programs are linked with, including the loader."""
    run = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)
    found = {Path(each) for each in re.findall(r"(?:=> |^\t)(/\S+) \(0x", run.stdout, re.MULTILINE)}
    # The libraries that resolve host names are loaded on first use.
    for each in tuple(found):
        if each.name.startswith("libc.so"):
            found |= set(each.parent.glob("libnss_dns.so.2")) | set(
                each.parent.glob("libresolv.so.2")
            )
    return {each for each in found if not each.is_relative_to(below)}


def _source_layer() -> bytes:
    with TemporaryDirectory() as folder:
        packages = Path(folder) / _PACKAGES
        for name in ("keyferry", "keyferry_devvault"):
            shutil.copytree(_ROOT / "src" / name, packages / name, ignore=_LEFT_OUT)
        # The driver finds the emulator by its entry points.
        for file in distribution("keyferry-devvault").files or ():
            if file.parent.suffix == ".dist-info" and file.name in ("METADATA", "entry_points.txt"):
                (packages / file.parent).mkdir(exist_ok=True)
                shutil.copy2(Path(str(file.locate())), packages / file)
        _compile(packages)
        return _layer(Path(folder))


def _compile(folder: Path) -> None:
    """Compile in advance, because the file system of the container is read-only."""
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*command, "-s", str(folder), str(folder)], check=False, capture_output=True)


def _layer(root: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as layer:
        layer.add(root, arcname=".", filter=_owned_by_root)
    return stream.getvalue()


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    return entry
