"""Sources and pages that docstrings and comments cite can be opened by every reader."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "bench", "scripts")
OUTPUTS = {"table.md"}
"""Pages that a command of this repository writes elsewhere."""

MAY_CITE = re.compile(
    r"sources?:|\.md\b|\bsections?\s+\d|\bdriver-(?:wire|operations)\b|\b(?:driver|azure|vault),\s+\d",
    re.IGNORECASE,
)
"""Matches every module with a citation. The others are not parsed, because that is slow."""

_SOURCE = re.compile(r"^[ \t]*Sources?:[ \t]*(.*)$", re.MULTILINE)
_PAGE = re.compile(r"(?<![\w/.*-])([\w/.*-]*[\w*]\.md)(?:#([\w-]+))?\b")
_URL = re.compile(r"https?://\S+")
_SECTION = re.compile(r"(?:[\w.-]+,?\s+)?\bsections?\s+\d[\d.]*", re.IGNORECASE)
_PRIVATE = re.compile(
    r"\bdriver-(?:wire|operations)\b|\b(?:driver|azure|vault)(?:\.md)?,\s+(?:sections?\s+)?\d"
)
_RFC = re.compile(r"\bRFC\s+\d+")


def prose(module: str) -> Iterator[tuple[int, str]]:
    """The first line and the text of each docstring and comment of a module.

    The strings below constants and fields count as docstrings.
    """
    for node in ast.walk(ast.parse(module)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value
    for token in tokenize.generate_tokens(io.StringIO(module).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def problems(text: str, root: Path) -> list[str]:
    """What nobody can open of the citations in `text`.

    Args:
        text: a docstring or a comment.
        root: the repository.
    """
    found = [
        problem
        for match in _SOURCE.finditer(text)
        if (problem := _source_problem(match[1].strip(), root))
    ]
    without_urls = _URL.sub("", text)
    found += [
        f"{match[0]}: {problem}"
        for match in _PAGE.finditer(without_urls)
        if (problem := _page_problem(match[1], match[2], root))
    ]
    found += [f"{match[0]}: not in the repository" for match in _PRIVATE.finditer(without_urls)]
    if not _RFC.search(text):
        found += [f"{match[0]}: a section of what?" for match in _SECTION.finditer(without_urls)]
    return found


def _source_problem(target: str, root: Path) -> str | None:
    """Why a reader cannot open `target`, the whole text behind `Source:`."""
    if not target or " " in target:
        return f"Source: {target}: not one link; put each on a line, and prose elsewhere"
    if "://" not in target:
        path, _, anchor = target.partition("#")
        problem = _page_problem(path, anchor or None, root)
        return f"Source: {target}: {problem}" if problem else None
    parts = urlsplit(target)
    if parts.scheme != "https" or "." not in parts.netloc or target.endswith((".", ",", ")")):
        return f"Source: {target}: not a well-formed https URL"
    return None


def _page_problem(path: str, anchor: str | None, root: Path) -> str | None:
    """Why `path` and `anchor` do not resolve; a path may contain `*`."""
    if path in OUTPUTS:
        return None
    if ".." in path or path.startswith("/"):
        return "not a path in the repository"
    if not any(root.glob(path)):
        return "no such file in the repository"
    if anchor and anchor not in anchors((root / path).read_text()):
        return f"no heading #{anchor}"
    return None


def anchors(page: str) -> set[str]:
    """The anchors that GitHub makes of the headings of a page.

    A repeated heading gets a number: `flags`, `flags-1`.
    """
    outside_code = re.sub(r"^(```|~~~).*?^\1", "", page, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)?$", outside_code, re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        numbered = (f"{slug}-{number}" if number else slug for number in range(len(found) + 1))
        found.add(next(name for name in numbered if name not in found))
    return found


def modules(root: Path) -> list[Path]:
    """All modules whose citations are checked; generated ones cite nothing."""
    return [
        path
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*.py"))
        if not path.stem.endswith(("_pb2", "_pb2_grpc"))
    ]


def test_every_citation_can_be_opened() -> None:
    """Use an https URL, or the path of a page here with the anchor of a heading.

    Facts about upstream are in docs/reference/upstream-*.md.
    """
    assert [] == [
        f"{path.relative_to(ROOT)}:{line}: {problem}"
        for path in modules(ROOT)
        if MAY_CITE.search(module := path.read_text())
        for line, text in prose(module)
        for problem in problems(text, ROOT)
    ]


def test_every_package_below_src_is_scanned() -> None:
    """A package that is added or renamed is scanned without a change here."""
    packages = {path.parent for path in (ROOT / "src").glob("*/__init__.py")}
    scanned = modules(ROOT)
    assert packages
    assert all(any(package in path.parents for path in scanned) for package in packages)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two pages."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(
        "# Title\n\n## `code` in a heading, and more\n\n## Twice\n\n## Twice\n\n"
        "```sh\n## a comment\n```\n"
    )
    (tmp_path / "README.md").write_text("# Read me\n")
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "Source: docs/page.md#title",
        "Source: docs/page.md",
        "Source: docs/page.md#code-in-a-heading-and-more",
        "Source: docs/page.md#twice-1\nSource: https://www.rfc-editor.org/rfc/rfc6749#section-4.4",
        "What README.md and docs/page.md#twice say.",
        "All of docs/*.md.",
        "The number of bits (RFC 7518, section 3.3), as it is in section 3.5.",
        "A section of the page, and how the driver, Azure or 2 vaults take it.",
        "Writes `table.md`.",
    ],
)
def test_what_can_be_opened_is_accepted(repository: Path, text: str) -> None:
    assert [] == problems(text, repository)


@pytest.mark.parametrize(
    "text",
    [
        "Source: docs/page.md#missing",
        "Source: docs/page.md#a-comment",
        "Source: docs/page.md#twice-2",
        "Source: docs/missing.md",
        "Source: docs/page.md. The rest of a sentence.",
        "Source: ../elsewhere/page.md",
        "Source: /etc/page.md",
        "Source:",
        "Source: driver.md, section 4.5.",
        "Source: azure, section 5.1. One GET each.",
        "Source: http://example.com/page",
        "Source: https://localhost",
        "Source: https://example.com/page.",
        "Described by missing.md.",
        "Described by docs/missing-*.md.",
        "Described by docs/page.md#missing, too.",
        "As upstream does (driver-wire, 1.3 and 1.4).",
        "As upstream does (driver.md, 6.3).",
        "As upstream does (vault,\n    section 1.9).",
        "As the specification has it in section 4.5.",
    ],
)
def test_what_cannot_be_opened_is_found(repository: Path, text: str) -> None:
    assert problems(text, repository)


def test_docstrings_of_all_kinds_and_comments_are_read() -> None:
    module = (
        '"""One."""\nLIMIT = 1  # Two.\n"""Three."""\n'
        'class Thing:\n    """Four."""\n    def act(self):\n        """Five."""\n'
        '        return "a text that is no docstring"\n'
    )
    assert {"One.", "# Two.", "Three.", "Four.", "Five."} == {text for _, text in prose(module)}
