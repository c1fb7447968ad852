"""Hooks of MkDocs: pages and files from outside docs/, and folders in the navigation.

Pages in docs/ link to files of the repository with relative links, which work wherever the
repository is viewed. The site contains a copy of each such file: the Markdown files of the root
folder become pages, other files are copied unchanged. A link to a folder has no target on the site
and becomes plain text.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "ARCHITECTURE.md")
"""Files of the root folder that are pages of the site, under the same name."""
COPIES = "repository"
"""Folder of the site with copies of other files."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#|/)([^)#\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"^( *)(```+).*?^\1\2 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def site_path(source: str, target: str) -> str | None:
    """Where the site has a file of the repository.

    Args:
        source: path of the page in the site, relative to the folder of the docs.
        target: link, relative to the file of the page in the repository.

    Returns:
        The path in the site, or None if the link already works there.
    """
    folder = "" if source in PAGES else f"docs/{dirname(source)}"
    path = normpath(f"{folder}/{target}".lstrip("/"))
    if path.startswith("docs/"):
        return path.removeprefix("docs/") if source in PAGES else None
    if path in PAGES:
        return path
    return f"{COPIES}/{path}"


def rewritten(text: str, source: str, exists: Callable[[str], bool]) -> str:
    """The Markdown of a page with links that work on the site.

    Args:
        text: Markdown of the page.
        source: path of the page in the site.
        exists: whether the repository has a file with this path.
    """

    def replace(match: re.Match[str]) -> str:
        image, label, target, anchor = match[1], match[2], match[3], match[4] or ""
        path = site_path(source, target)
        if path is None:
            return match[0]
        if path.startswith(f"{COPIES}/") and not exists(path.removeprefix(f"{COPIES}/")):
            return label
        return f"{image}[{label}]({relpath(path, dirname(source) or '.')}{anchor})"

    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [_LINK.sub(replace, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(replace, text[end:])])


def linked_files(text: str, source: str) -> set[str]:
    """The files of the repository, beyond docs/ and `PAGES`, that a page links to."""
    paths = {site_path(source, match[3]) for match in _LINK.finditer(_CODE.sub("", text))}
    prefix = f"{COPIES}/"
    return {path.removeprefix(prefix) for path in paths if path and path.startswith(prefix)}


def expanded(nav: list[Any], pages: Iterable[str]) -> list[Any]:
    """The navigation with each `folder/*` replaced by the pages of the folder without an entry."""
    named = set(_paths(nav))
    rest = sorted(set(pages) - named)
    return _expanded(nav, rest)


def _expanded(nav: list[Any], rest: list[str]) -> list[Any]:
    entries: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            entries += [
                {title: _expanded(value, rest) if isinstance(value, list) else value}
                for title, value in entry.items()
            ]
        elif entry.endswith("/*"):
            entries += [page for page in rest if dirname(page) == entry.removesuffix("/*")]
        else:
            entries.append(entry)
    return entries


def _paths(nav: Any) -> Iterable[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _paths(entry)


def _is_file(path: str) -> bool:
    return (ROOT / path).is_file()


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages and files from outside docs/ (called by MkDocs)."""
    from mkdocs.structure.files import File  # type: ignore[import-not-found]

    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    wanted: set[str] = set()
    for file in files.documentation_pages():
        wanted |= linked_files(file.content_string, file.src_uri)
    for path in sorted(filter(_is_file, wanted)):
        copy = File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path))
        files.append(copy)
    config["nav"] = expanded(config["nav"], [file.src_uri for file in files.documentation_pages()])
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites the links of a page (called by MkDocs)."""
    return rewritten(markdown, page.file.src_uri, _is_file)
