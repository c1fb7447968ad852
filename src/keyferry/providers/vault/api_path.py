"""A path of the Vault API, as a class may write it. [pure]

With or without `/v1/`, with or without a query, lexically cleaned.

Source: docs/reference/upstream-vault-provider.md#api-path
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus, urlencode


@dataclass(frozen=True, slots=True)
class ApiPath:
    """A path and a query.

    Attributes:
        path: what follows `/v1/`, clean: `secret/data/db`.
        query: encoded, sorted by key; "" for none.
    """

    path: str
    query: str = ""

    @property
    def encoded(self) -> str:
        """As it stands in a URL, the query included: `/v1/secret/data/db?version=3`."""
        path = "/v1/" + quote(self.path, safe="/:@!$&'()*+,;=~-._")
        return f"{path}?{self.query}" if self.query else path

    def with_path(self, path: str) -> ApiPath:
        """Another path with the same query."""
        return ApiPath(path, self.query)

    def __str__(self) -> str:
        """As a policy names it, and as a person reads it."""
        shown = "".join(char if char.isprintable() else "?" for char in self.path)
        return shown if len(shown) <= 200 else shown[:200] + "..."


def parse_api_path(text: str) -> ApiPath:
    """The path that `text` means.

    Raises:
        ValueError: it cannot be sent; the text says why, as the end of "secretPath ...".
    """
    path, _, query = text.partition("?")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise ValueError("holds a control character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return ApiPath(_normalize(path), _encoded_query(query))


def _normalize(path: str) -> str:
    """What follows `/v1/`: `x`, `/x`, `v1/x` and `/v1/x` are the same."""
    whole = "/" + path.removeprefix("/")
    whole = whole if whole.startswith("/v1/") else "/v1" + whole
    clean = posixpath.normpath(whole)
    if not clean.startswith("/v1/"):
        raise ValueError("leads out of the API with '..', or is empty")
    return clean.removeprefix("/v1/")


def _encoded_query(query: str) -> str:
    pairs = []
    for part in query.split("&"):
        if not part:
            continue
        if ";" in part:
            raise ValueError("has a ';' in its query")
        name, _, value = part.partition("=")
        pairs.append((_decoded(name), _decoded(value)))
    return urlencode(sorted(pairs, key=lambda pair: pair[0]))


def _decoded(text: str) -> str:
    at = text.find("%")
    while at >= 0:
        digits = text[at + 1 : at + 3]
        if len(digits) < 2 or any(char not in "0123456789abcdefABCDEF" for char in digits):
            raise ValueError("has a bad percent escape in its query")
        at = text.find("%", at + 3)
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("has bytes in its query that are not UTF-8") from None
