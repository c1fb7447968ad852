"""Requests and answers without sockets, for the unit tests of the stations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from keyferry_devvault.http_types import HttpError, Request, Response

NOW = 1_700_000_000.0
PUBLIC_VAULT = "contoso.vault.azure.net"


def call(
    method: str,
    host: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    now: float = NOW,
) -> Request:
    """A request."""
    return Request(method, host, path, query or {}, headers or {}, body, now)


def form(host: str, path: str, fields: Mapping[str, str], *, now: float = NOW) -> Request:
    """A POST of a form."""
    return call("POST", host, path, body=urlencode(fields).encode(), now=now)


def outcome(answer_of: Callable[[], Response]) -> Response:
    """The answer, whether it was returned or raised."""
    try:
        return answer_of()
    except HttpError as refusal:
        return refusal.response


def json_of(answer: Response) -> Any:
    """The body as a client sees it."""
    return msgspec.json.decode(msgspec.json.encode(answer.body))
