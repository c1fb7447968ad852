"""The Keyferry image of the cluster: the one of `make image`, with the emulator on top.

The emulator is there because these tests run the driver with `--dev-vault`.
"""

from __future__ import annotations

from pathlib import Path

from scripts.image import oci
from scripts.image.build import Build, default_cache, native_architecture

KEYFERRY = "keyferry.test/keyferry:1"

_ROOT = Path(__file__).parents[3]


def fetch_keyferry_image() -> None:
    """Download what the image consists of; later, this process needs no network to build it."""
    _image()


def write_keyferry_archive(path: Path, *, name: str = KEYFERRY) -> Path:
    """Write the archive of the image; return `path`.

    Args:
        path: of the archive.
        name: the image name with its tag.
    """
    oci.write_archive(path, name, [_image()])
    return path


def _image() -> oci.Image:
    # A test fails neither because Debian has updated a package nor because of the time.
    return Build(default_cache(), newer=True).image(
        native_architecture(),
        epoch=0,
        labels={},
        added_locks=[_ROOT / "requirements" / "devvault.lock"],
        added_projects=[_ROOT / "src" / "keyferry_devvault"],
    )
