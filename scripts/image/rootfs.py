"""The root file system of the image, as folders that become its layers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scripts.image.debian import Package, control_of, extract

PACKAGES = Path("usr/local/lib/python3.11/dist-packages")
PYTHON = Path("usr/bin/python3.11")
STDLIB = Path("usr/lib/python3.11")
_AUTHORITIES = Path("etc/ssl/certs/ca-certificates.crt")
_COMMAND = Path("usr/local/bin/keyferry")

_LEFT_OUT = (
    # Programs, and what only a person or a package manager reads.
    r"usr/s?bin/(?!python3\.11$).*",
    r"s?bin/.*",
    r"etc/.*",
    r"usr/share/(?!doc/[^/]+/copyright$|ca-certificates/).*",
    r"usr/lib/(binfmt\.d|mime|os-release\.d)/.*",
    r"usr/share/doc/ca-certificates/examples/.*",
    r"var/.*",
    # glibc without its character sets, which Python does not use, and its aids for debugging.
    r"usr/lib/[^/]+/(gconv|audit)/.*",
    r"lib/[^/]+/(libmemusage|libpcprofile|libc_malloc_debug|libSegFault)\.so.*",
    # Python without what builds, installs or tests programs, and without its graphical parts.
    r"usr/lib/python3\.11/(ensurepip|venv|lib2to3|distutils|idlelib|tkinter|test)/.*",
    r"usr/lib/python3\.11/(pydoc_data|__phello__|config-[^/]+|turtledemo)/.*",
    r"usr/lib/python3\.11/(EXTERNALLY-MANAGED|(sitecustomize|_distutils_system_mod|turtle)\.py)",
    r"usr/lib/python3\.11/(__hello__|antigravity)\.py",
    # Extension modules whose libraries are not in the image, and those of Python's own tests.
    r"usr/lib/python3\.11/lib-dynload/(_crypt|_curses|_curses_panel|_dbm|_sqlite3|nis)\..*",
    r"usr/lib/python3\.11/lib-dynload/(ossaudiodev|readline|audioop)\..*",
    r"usr/lib/python3\.11/lib-dynload/(_test[a-z]*|_ctypes_test|_xx[a-z]*|xx[a-z0-9_]*)\..*",
)

_WRITTEN = {
    "etc/passwd": "root:x:0:0:root:/:/nonexistent\nnobody:x:65534:65534:nobody:/:/nonexistent\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    # `kubectl exec ... -- keyferry version` works; there is no shell.
    str(_COMMAND): f"#!/{PYTHON} -IB\nfrom keyferry.cli import main\n\nmain()\n",
}


def stage_debian(root: Path, packages: Sequence[tuple[Package, Path]]) -> None:
    """Extract the Debian packages below `root`, and write what their scripts would write."""
    for _, file in packages:
        extract(file, root)
    for path in sorted(root.rglob("*"), reverse=True):
        _keep_or_remove(path, path.relative_to(root).as_posix())
    for place, text in _WRITTEN.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    (root / _COMMAND).chmod(0o755)
    # As scanners expect it where no dpkg is installed.
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    for package, file in packages:
        control = control_of(file).replace("\n", "\nStatus: install ok installed\n", 1)
        (status / package.name).write_text(control)
    _trust_authorities(root)
    for place in ("dev", "proc", "run", "sys", "tmp"):
        (root / place).mkdir(exist_ok=True)


def _keep_or_remove(path: Path, place: str) -> None:
    if path.is_dir() and not path.is_symlink():
        if not any(path.iterdir()):
            path.rmdir()
    elif any(re.fullmatch(pattern, place) for pattern in _LEFT_OUT):
        path.unlink()


def _trust_authorities(root: Path) -> None:
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    (root / _AUTHORITIES).parent.mkdir(parents=True)
    (root / _AUTHORITIES).write_text("".join(each.read_text() for each in authorities))
    shutil.rmtree(root / "usr/share/ca-certificates")
    # Where Debian's OpenSSL looks.
    (root / "usr/lib/ssl").mkdir()
    (root / "usr/lib/ssl/cert.pem").symlink_to(f"/{_AUTHORITIES}")
    (root / "usr/lib/ssl/certs").symlink_to(f"/{_AUTHORITIES.parent}")


class Interpreter:
    """Python of the image, run on this machine without entering the image.

    It compiles and compresses what goes into the image, so the result does not depend on the
    Python and zlib of the machine.
    """

    def __init__(self, root: Path) -> None:
        (loader,) = root.glob("lib*/ld-linux-*.so.*")
        libraries = sorted({str(path.parent) for path in root.glob("**/*-linux-gnu/lib*.so*")})
        self._command = [
            str(loader.resolve()) if loader.is_symlink() else str(loader),
            "--library-path",
            ":".join(libraries),
            str(root / PYTHON),
            *("-B", "-s", "-P"),
        ]
        self._environment = {"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C"}

    def run(self, *arguments: str, content: bytes | None = None) -> bytes:
        """Run Python with the given arguments and input; return its output."""
        run = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            input=content,
            stdout=subprocess.PIPE,
            check=True,
        )
        return run.stdout

    def compress(self, content: bytes) -> bytes:
        """Compress with gzip, without a name and time."""
        program = (
            "import gzip, sys; content = sys.stdin.buffer.read(); "
            "sys.stdout.buffer.write(gzip.compress(content, compresslevel=6, mtime=0))"
        )
        return self.run("-c", program, content=content)

    def compile(self, root: Path, place: Path) -> None:
        """Compile all modules below a folder, because the container cannot write to it."""
        self.run(
            *("-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"),
            *("-s", str(root), "-p", "/", str(root / place)),
        )


def normalize(root: Path) -> None:
    """Remove what differs between two builds: nothing but names, types and content remains."""
    for path in root.rglob("*"):
        if not path.is_symlink():
            program = path.parent.name == "bin" or path.name.startswith("ld-linux")
            path.chmod(0o755 if path.is_dir() or program else 0o644)
    if (root / "tmp").exists():
        (root / "tmp").chmod(0o1777)
