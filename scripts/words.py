"""Find words that Keyferry does not use: private words for things that have a standard name.

Usage: python -m scripts.words [PATH ...]

Without arguments it checks everything in `CHECKED`. CONTRIBUTING.md says how we write.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[1]

CHECKED: tuple[str, ...] = (
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "Makefile",
    "Containerfile",
    "mkdocs.yml",
    "pyproject.toml",
    ".ci",
    ".github",
    "bench",
    "charts",
    "deploy",
    "docs",
    "examples",
    "requirements",
    "scripts",
    "src",
    "tests",
)
"""Paths that must be free of retired words."""

RETIRED: dict[str, str] = {
    r"anew": "again",
    r"at the most": "at most",
    r"away": "unavailable",
    r"in step(?! \d)": "in sync, sync",
    r"besides": "also",
    r"defects? of keyferry": "internal error",
    r"dice": "random",
    r"economy": "cache, rate limit, resilience",
    r"errands?": "call",
    r"given back|gives? back": "revoked, released",
    r"gone": "removed, deleted",
    r"hears|(?:hear|heard) of": "is notified of, receives",
    r"hops?": "stage",
    r"(?-i:is none)": "is not a",
    r"left alone|leave[s]? alone": "circuit open, not retried, unchanged",
    r"lets? go(?: of)?": "deletes, releases",
    r"looks? after": "manages",
    r"mend(?:s|ed|ing)?": "fix",
    r"ours": "managed by Keyferry, Keyferry extension",
    r"plays?(?: the)? (?:vault|kubelet|azure|entra)|pretends?": "emulates",
    r"proofs?": "revalidation, credential",
    r"so long as|for so long": "for a duration that is named",
    r"so many": "`n`",
    r"stands?": "exists, is",
    r"tak(?:e|es|en|ing) away": "remove, unmount",
    r"tells?|told": "says, reports, logs",
    r"the originals?": "upstream",
    r"the story": "entry point",
    r"ticks?|ticked": "refresh slot",
    r"under ?way": "in flight, in progress",
    r"whoever": "the caller",
}
"""Retired words, as patterns of whole words that ignore case, and what to write instead."""

ALLOWED: dict[str, tuple[str, ...]] = {
    "away": ("right away", "straight away"),
    "proofs?": ("proof of possession",),
    "the originals?": ("the original order",),
    "ticks?|ticked": ("clock tick",),
    "stands?": ("stands for", "stand for", "stand-in"),
}
"""Phrases in which a retired word has its ordinary, standard meaning."""

SKIPPED = (
    ".lock",
    ".svg",
    ".png",
    ".webp",
    ".json",
    "_pb2.py",
    "_pb2.pyi",
    ".proto",
    "go.sum",
    "go.mod",
)
EXEMPT = (
    "scripts/words.py",
    "tests/unit/test_words.py",
    "LICENSE",
    "src/keyferry_devvault/LICENSE",
)
"""The list itself, its tests, and texts that are not ours to change."""

_PATTERNS = {
    word: (re.compile(word.replace("(?-i:", "(?:")), re.compile(rf"\b(?:{word})\b", re.IGNORECASE))
    for word in RETIRED
}
"""A pattern that searches text in lower case quickly and finds too much, and the exact one."""


class Finding(NamedTuple):
    """A retired word in a text.

    Attributes:
        line: the line number, from 1.
        word: the word as it is written.
        instead: what to write.
    """

    line: int
    word: str
    instead: str


def findings(text: str) -> Iterator[Finding]:
    """Yield the retired words of `text`."""
    spaced = text.replace("_", " ")
    lowered = spaced.lower()
    found = (
        (match, word)
        for word, (rough, exact) in _PATTERNS.items()
        if rough.search(lowered)
        for match in exact.finditer(spaced)
    )
    for match, word in sorted(found, key=lambda each: each[0].start()):
        around = lowered[max(0, match.start() - 24) : match.end() + 24]
        if not any(phrase in around for phrase in ALLOWED.get(word, ())):
            line = text.count("\n", 0, match.start()) + 1
            yield Finding(line, text[match.start() : match.end()], RETIRED[word])


def tracked_files(paths: Iterable[str]) -> list[str]:
    """Return the text files below `paths` that git tracks, relative to the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *paths], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return [name for name in listed if not name.endswith(SKIPPED) and name not in EXEMPT]


def report(paths: Iterable[str]) -> Iterator[str]:
    """Yield one line for each retired word in the files below `paths`."""
    for name in tracked_files(paths):
        path = ROOT / name
        if not path.is_file():
            continue
        for finding in findings(path.read_text()):
            yield f"{name}:{finding.line}: '{finding.word}' -> {finding.instead}"


def main() -> int:
    """Print the findings; return 1 if there are any."""
    lines = list(report(sys.argv[1:] or CHECKED))
    print("\n".join(lines) or "No retired words.")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
