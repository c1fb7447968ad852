"""Completes the metadata of `keyferry` at build time: addresses, and a README with absolute links.

The address of the repository is an option of this hook in `pyproject.toml`. An sdist contains the
completed metadata.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<image>!?)(?P<text>\[[^\[\]]*\])\((?P<target>[^()\s]+)\)")


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

    return _LINK.sub(absolute, text)
