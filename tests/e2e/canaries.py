"""Search for secret texts where they must not be, in any common encoding."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

_JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ")
"""The start of any signed token: two JSON objects in base64url."""


def forms(text: str) -> list[bytes]:
    """Return the encodings of `text`: plain, hex, URL-quoted, and base64 at each offset."""
    raw = text.encode()
    encoded = [raw, raw.hex().encode(), raw.hex().upper().encode(), quote(text).encode()]
    for offset in range(3):
        # The first and last characters also depend on the neighbouring bytes.
        coded = base64.b64encode(bytes(offset) + raw)[4 if offset else 0 : -4]
        encoded += [coded, coded.replace(b"+", b"-").replace(b"/", b"_")]
    return encoded


def search(content: bytes, canaries: Iterable[str]) -> list[str]:
    """Return the canaries in `content`; any signed token counts as one."""
    found = [text for text in canaries if any(form in content for form in forms(text))]
    if _JWT.search(content):
        found.append("a signed token")
    return found


def search_folder(root: Path, canaries: Iterable[str], *, but: Iterable[Path]) -> list[str]:
    """Return `path: canary` for each canary below `root`, except below the folders `but`.

    File names are searched as well as contents.
    """
    excluded, texts = tuple(but), tuple(canaries)
    found = []
    for path in sorted(root.rglob("*")):
        if any(path.is_relative_to(folder) for folder in excluded):
            continue
        content = str(path).encode()
        if path.is_file():
            content += path.read_bytes()
        found += [f"{path}: {canary}" for canary in search(content, texts)]
    return found
