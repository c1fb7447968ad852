"""Completes `keyferry` at build time: addresses, a README with absolute links, and the commit.

The address of the repository is an option of the hook for metadata in `pyproject.toml`. An sdist
contains the completed metadata and the commit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<image>!?)(?P<text>\[[^\[\]]*\])\((?P<target>[^()\s]+)\)")
_IMAGE = re.compile(r'\b(?P<name>src|srcset)="(?P<target>(?![a-z]+:)[^"\s]+)"')
"""Images of a `picture` in HTML."""


class RepositoryMetadata(MetadataHookInterface):
    """Sets the dynamic fields `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both fields to the metadata of the project."""
        repository: str = self.config["repository"]
        tree = f"{repository}/blob/v{metadata['version']}"
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["urls"] = {
            "Homepage": repository,
            "Documentation": f"{tree}/docs/index.md",
            "Source": repository,
            "Issues": f"{repository}/issues",
            "Changelog": f"{tree}/CHANGELOG.md",
        }
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute_links(readme, f"{repository}/{{}}/v{metadata['version']}"),
        }


def absolute_links(text: str, base: str) -> str:
    """Return Markdown whose links to files of the repository are absolute.

    Args:
        text: the Markdown.
        base: the address of the files, with `{}` for `blob` (a page) or `raw` (an image).
    """

    def absolute(link: re.Match[str]) -> str:
        target = link["target"]
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}{link['text']}({base.format(kind)}/{target})"

    images = _IMAGE.sub(rf'\g<name>="{base.format("raw")}/\g<target>"', text)
    return _LINK.sub(absolute, images)


class CommitFile(BuildHookInterface[Any]):
    """Adds the file that `keyferry version` reads: the commit, from KEYFERRY_COMMIT or git."""

    _file: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file, unless an sdist contains it or the commit is unknown."""
        path = "src/keyferry/commit.txt"
        commit = os.environ.get("KEYFERRY_COMMIT") or _git_commit(self.root)
        if version == "editable" or not commit or Path(self.root, path).exists():
            return
        self._file = Path(tempfile.mkdtemp(), "commit.txt")
        self._file.write_text(f"{commit}\n", encoding="utf-8")
        inside = path if self.target_name == "sdist" else path.removeprefix("src/")
        build_data["force_include"][str(self._file)] = inside

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary file."""
        if self._file is not None:
            shutil.rmtree(self._file.parent)


def _git_commit(root: str) -> str:
    # In a container, the files may belong to another user.
    command = ["git", "-C", root, "-c", f"safe.directory={root}", "rev-parse", "HEAD"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return run.stdout.strip()
