"""Looks for secret texts where they must not be, however they are written."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ")
"""The beginning of any signed token: two JSON objects in base64url."""


def forms(text: str) -> list[bytes]:
    """How a text may be written: as it is, in base64 at any offset, in hex, or quoted for a URL."""
    raw = text.encode()
    found = [raw, raw.hex().encode(), raw.hex().upper().encode(), quote(text).encode()]
    for offset in range(3):
        # The characters at both ends also depend on the adjacent text.
        coded = base64.b64encode(bytes(offset) + raw)[4 if offset else 0 : -4]
        found += [coded, coded.replace(b"+", b"-").replace(b"/", b"_")]
    return found


def search(content: bytes, canaries: Iterable[str]) -> list[str]:
    """Which canaries are in `content`; any signed token counts as one."""
    found = [text for text in canaries if any(form in content for form in forms(text))]
    if _JWT.search(content):
        found.append("a signed token")
    return found


def search_folder(root: Path, canaries: Iterable[str], *, but: Iterable[Path]) -> list[str]:
    """Where canaries are below `root`, except below the folders `but`: `path: canary`.

    The name of a file counts as its content does.
    """
    places, texts = tuple(but), tuple(canaries)
    found = []
    for path in sorted(root.rglob("*")):
        if any(path.is_relative_to(place) for place in places):
            continue
        content = str(path).encode()
        if path.is_file():
            content += path.read_bytes()
        found += [f"{path}: {canary}" for canary in search(content, texts)]
    return found
