"""The Keyferry image of the cluster: the one of `make image`, with the emulator on top.

The emulator is there because these tests run the driver with `--dev-vault`.
"""

from __future__ import annotations

from pathlib import Path

from scripts.image.build import Build, native_architecture
from scripts.image.oci import write_archive

KEYFERRY = "keyferry.test/keyferry:1"

_ROOT = Path(__file__).parents[3]


def write_keyferry_archive(path: Path, cache: Path, *, name: str = KEYFERRY) -> Path:
    """Write the archive of the image; return `path`.

    Args:
        path: of the archive.
        cache: the folder that caches the layers that seldom change.
        name: the image name with its tag.
    """
    # A test fails neither because Debian has updated a package nor because of the time.
    image = Build(cache, newer=True).image(
        native_architecture(),
        epoch=0,
        labels={},
        added_locks=[_ROOT / "requirements" / "devvault.lock"],
        added_projects=[_ROOT / "src" / "keyferry_devvault"],
    )
    write_archive(path, name, [image])
    return path
