"""Parses the `secretPath` of an object into a path of the Vault API. [pure]

The `/v1/` prefix and a query are optional. The path is normalized lexically.

Source: docs/reference/upstream-vault-provider.md#api-path
"""

from __future__ import annotations

import posixpath
from urllib.parse import quote, unquote_plus, urlencode

from msgspec import Struct


class ApiPath(Struct, frozen=True):
    """A path of the Vault API with its query.

    Attributes:
        path: normalized path after `/v1/`, such as `secret/data/db`.
        query: encoded query, sorted by key; "" for none.
    """

    path: str
    query: str = ""

    @property
    def encoded(self) -> str:
        """The path and query of the URL, such as `/v1/secret/data/db?version=3`."""
        path = "/v1/" + quote(self.path, safe="/:@!$&'()*+,;=~-._")
        return f"{path}?{self.query}" if self.query else path

    def with_path(self, path: str) -> ApiPath:
        """Return a copy with another path and the same query."""
        return ApiPath(path, self.query)

    def __str__(self) -> str:
        """Return the path as policies and messages show it, without the query."""
        printable = "".join(char if char.isprintable() else "?" for char in self.path)
        return printable if len(printable) <= 200 else printable[:200] + "..."


def parse_api_path(text: str) -> ApiPath:
    """Parse a `secretPath`.

    Raises:
        ValueError: the path cannot be sent; the text completes "secretPath ...".
    """
    path, _, query = text.partition("?")
    if any(ord(char) < 0x20 or ord(char) == 0x7F for char in text):
        raise ValueError("contains a control character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode") from None
    return ApiPath(_normalize(path), _encoded_query(query))


def _normalize(path: str) -> str:
    """Return the path after `/v1/`. `x`, `/x`, `v1/x` and `/v1/x` all mean `x`."""
    absolute = "/" + path.removeprefix("/")
    absolute = absolute if absolute.startswith("/v1/") else "/v1" + absolute
    normalized = posixpath.normpath(absolute)
    if not normalized.startswith("/v1/"):
        raise ValueError("is empty, or leaves the API with '..'")
    return normalized.removeprefix("/v1/")


def _encoded_query(query: str) -> str:
    pairs = []
    for part in query.split("&"):
        if not part:
            continue
        if ";" in part:
            raise ValueError("contains a ';' in its query")
        name, _, value = part.partition("=")
        pairs.append((_decoded(name), _decoded(value)))
    return urlencode(sorted(pairs, key=lambda pair: pair[0]))


def _decoded(text: str) -> str:
    index = text.find("%")
    while index >= 0:
        digits = text[index + 1 : index + 3]
        if len(digits) < 2 or any(char not in "0123456789abcdefABCDEF" for char in digits):
            raise ValueError("contains an invalid percent escape in its query")
        index = text.find("%", index + 3)
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("contains bytes in its query that are not valid UTF-8") from None
