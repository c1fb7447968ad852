"""Container images that are built locally, without a registry, as archives of OCI image layouts.

The single layer contains a static busybox, so an image has no dependencies.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from scripts.image import oci
from scripts.image.build import native_architecture
from tests.e2e.cluster.programs import Programs

BUSYBOX = "keyferry.test/busybox:1"
"""A shell and the standard commands, for the containers of tests."""

PAUSE = "keyferry.test/pause:1"
"""The pause image: sleeps and holds the namespaces of a pod."""


@dataclass(frozen=True)
class Image:
    """An image that runs a busybox command.

    Attributes:
        name: the image name with its tag.
        command: default command of a container.
    """

    name: str
    command: tuple[str, ...]


IMAGES = (
    Image(BUSYBOX, ("/bin/sh",)),
    Image(
        PAUSE, ("/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done")
    ),
)


def write_archive(path: Path, image: Image) -> Path:
    """Write the archive of one image; return `path`."""
    settings = {"Cmd": list(image.command), "Env": ["PATH=/bin"], "WorkingDir": "/"}
    layer = oci.Layer(gzip.compress(_busybox_layer(), compresslevel=1, mtime=0))
    packed = oci.Image(native_architecture(), (layer,), settings)
    oci.write_archive(path, image.name, [packed])
    return path


def _busybox_layer() -> bytes:
    busybox = Programs.of_system("busybox")
    run = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as layer:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            _add(layer, folder, tarfile.DIRTYPE, mode=mode)
        _add_file(layer, "bin/busybox", Path(busybox).read_bytes(), mode=0o755)
        _add_file(layer, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:\n")
        for applet in run.stdout.split():
            if applet != "busybox":
                _add(layer, f"bin/{applet}", tarfile.SYMTYPE, target="busybox")
    return stream.getvalue()


def _add(
    archive: tarfile.TarFile, name: str, kind: bytes, *, mode: int = 0o777, target: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, target
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
