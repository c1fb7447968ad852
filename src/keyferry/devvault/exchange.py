"""A request and its answer, free of any web framework. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class PathKind(StrEnum):
    """What a request is about, for counting."""

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


_KINDS: tuple[tuple[re.Pattern[str], PathKind], ...] = (
    (re.compile(r"/(secrets|keys|certificates)/?"), PathKind.LIST),
    (re.compile(r"/(secrets|keys|certificates)/[^/]+/versions/?"), PathKind.VERSIONS),
    (re.compile(r"/secrets/[^/]+(/[^/]*)?/?"), PathKind.SECRET),
    (re.compile(r"/keys/[^/]+(/[^/]*)?/?"), PathKind.KEY),
    (re.compile(r"/certificates/[^/]+(/[^/]*)?/?"), PathKind.CERTIFICATE),
    (re.compile(r"/deleted(secrets|keys|certificates)(/.*)?"), PathKind.DELETED),
    (re.compile(r"/metadata/.*"), PathKind.IMDS),
    (re.compile(r"/host/token/?"), PathKind.NMI),
    (re.compile(r"/[^/]+/oauth2/(v2\.0/)?token"), PathKind.TOKEN),
    (re.compile(r"/[^/]+/(discovery|v2\.0/\.well-known)/.*"), PathKind.DISCOVERY),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        method: in upper case.
        host: the `Host` header as it came.
        path: decoded, beginning with a slash.
        query: the last value of each parameter.
        headers: by name in lower case.
        body: whole.
        now: when it came, seconds since 1970.
        server_name: the TLS server name that the client asked for; "" without TLS.
    """

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    now: float
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back.

    Attributes:
        status: of HTTP.
        body: anything that becomes JSON; None for no body.
        headers: beside the content type.
        principal: the client id that asked, where it is known; for the log.
        note: what a person who reads the log can do about it; never a value or a token.
    """

    status: int
    body: object = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    principal: str | None = None
    note: str = ""


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of the development vault
    """Ends the handling of a request with `answer`."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def path_kind(path: str) -> PathKind:
    """What `path` is about."""
    kinds = (kind for pattern, kind in _KINDS if pattern.fullmatch(path))
    return next(kinds, PathKind.OTHER)


def vault_error(status: int, code: str, message: str, inner: str | None = None) -> Answer:
    """An error in the shape of Key Vault."""
    error: dict[str, object] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return Answer(status, {"error": error})
