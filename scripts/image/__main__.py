"""`python -m scripts.image build` writes the archive; `lock` updates requirements/image.lock."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from scripts.image.build import Build, default_cache, labels, native_architecture, source_epoch
from scripts.image.build import version as version_of_keyferry
from scripts.image.debian import ARCHITECTURES, ROOT, PackagesError, write_lock
from scripts.image.oci import write_archive


def main() -> None:
    """Entry point."""
    options = _options()
    try:
        if options.command == "lock":
            write_lock(default_cache())
        else:
            _build(options)
    except (PackagesError, subprocess.CalledProcessError) as error:
        sys.exit(f"The image was not built: {error}")


def _build(options: argparse.Namespace) -> None:
    builder = Build(default_cache(), newer=options.newer)
    chosen = options.architectures.split(",")
    images = [builder.image(each, epoch=source_epoch(), labels=labels()) for each in chosen]
    output = Path(options.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    digest = write_archive(output, options.name, images)
    size = output.stat().st_size / 2**20
    print(f"{output}  {size:.0f} MiB  {options.name}  {','.join(chosen)}\n{digest}")


def default_name() -> str:
    """Return the image name that the chart uses by default."""
    values = (ROOT / "charts" / "keyferry" / "values.yaml").read_text()
    (repository,) = re.findall(r"^    repository: (\S+)$", values, re.MULTILINE)
    return f"{repository}:v{version_of_keyferry()}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.image", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lock", help="lock the newest versions of the Debian packages")
    build = commands.add_parser("build", help="build the image")
    build.add_argument("--output", default="build/keyferry.oci.tar", help="path of the archive")
    build.add_argument("--name", default=default_name(), help="image name with its tag")
    build.add_argument(
        "--architectures",
        default=native_architecture(),
        help=f"separated by commas, of {','.join(ARCHITECTURES)}; default that of this machine",
    )
    build.add_argument(
        "--newer",
        action="store_true",
        help="take the newest Debian package if the archive has dropped the locked version",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
