"""Requests and responses, independent of a web framework. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class RequestKind(StrEnum):
    """The kinds of requests that are counted."""

    SECRET = "secret"  # noqa: S105 - a kind
    """One secret: read, set, changed or deleted."""
    KEY = "key"
    """One key."""
    CERTIFICATE = "certificate"
    """One certificate."""
    VERSIONS = "versions"
    """The versions of one object."""
    LIST = "list"
    """The secrets, keys or certificates of a vault."""
    DELETED = "deleted"
    """Deleted objects."""
    TOKEN = "token"  # noqa: S105 - a kind
    """The token endpoint of Entra."""
    DISCOVERY = "discovery"
    """What clients ask of Entra before they ask for a token."""
    IMDS = "imds"
    """The metadata service of a VM, or the agent of Azure Arc."""
    NMI = "nmi"
    OTHER = "other"


_KIND_PATTERNS: tuple[tuple[re.Pattern[str], RequestKind], ...] = (
    (re.compile(r"/(secrets|keys|certificates)/?"), RequestKind.LIST),
    (re.compile(r"/(secrets|keys|certificates)/[^/]+/versions/?"), RequestKind.VERSIONS),
    (re.compile(r"/secrets/[^/]+(/[^/]*)?/?"), RequestKind.SECRET),
    (re.compile(r"/keys/[^/]+(/[^/]*)?/?"), RequestKind.KEY),
    (re.compile(r"/certificates/[^/]+(/[^/]*)?/?"), RequestKind.CERTIFICATE),
    (re.compile(r"/deleted(secrets|keys|certificates)(/.*)?"), RequestKind.DELETED),
    (re.compile(r"/metadata/.*"), RequestKind.IMDS),
    (re.compile(r"/host/token/?"), RequestKind.NMI),
    (re.compile(r"/[^/]+/oauth2/(v2\.0/)?token"), RequestKind.TOKEN),
    (re.compile(r"/[^/]+/(discovery|v2\.0/\.well-known)/.*"), RequestKind.DISCOVERY),
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: in upper case.
        host: the `Host` header, unmodified.
        path: decoded, beginning with a slash.
        query: the last value of each parameter.
        headers: by name in lower case.
        body: the whole body.
        received_at: Unix time.
        server_name: the TLS server name that the client sent; "" without TLS.
    """

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: float
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response.

    Attributes:
        status: the HTTP status.
        body: a value to encode as JSON; None for no body.
        headers: headers in addition to the content type.
        principal: the client ID of the caller for the log; "" if unknown.
        note: a hint in the log on how to fix an error; never a value or a token.
    """

    status: int
    body: object = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    principal: str | None = None
    note: str = ""


class HttpError(Exception):
    """Ends a request with the error response `response`."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def request_kind(path: str) -> RequestKind:
    """Return the kind of a request by its path."""
    kinds = (kind for pattern, kind in _KIND_PATTERNS if pattern.fullmatch(path))
    return next(kinds, RequestKind.OTHER)


def vault_error_response(
    status: int, code: str, message: str, inner_code: str | None = None
) -> Response:
    """Return an error response in the format of Key Vault."""
    error: dict[str, object] = {"code": code, "message": message}
    if inner_code:
        error["innererror"] = {"code": inner_code}
    return Response(status, {"error": error})
