"""What `keyferry doctor` needs to know about a mount before it is made. [pure]

A provider plans its own diagnosis, so that addresses, proxies, TLS settings and parameters are
those of its mounts.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar, runtime_checkable

from msgspec import Struct

if TYPE_CHECKING:
    from keyferry.net.inspection.observed import Inspection
    from keyferry.providers.api import MountCall

Facts: TypeAlias = Mapping[str, str]
"""Names and versions, by lower-case words; no value of a secret and no token."""

T = TypeVar("T")
Call: TypeAlias = Callable[[], Coroutine[None, None, T]]
"""Sends one request."""


class EndpointKind(Enum):
    """What an endpoint does."""

    TOKEN = "token"  # noqa: S105 - a word
    """It issues access tokens."""
    VAULT = "vault"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host that a mount sends requests to.

    Attributes:
        kind: what it does.
        name: the host as errors of the mount name it.
        inspect: opens a connection as a request does; None where that shows nothing, such as for a
            Unix socket.
        greet: sends a request without credentials and returns what the answer shows. It raises the
            `KeyferryError` of a vault that cannot serve anybody now.
    """

    kind: EndpointKind
    name: str
    inspect: Callable[[], Coroutine[None, None, Inspection]] | None = field(
        default=None, compare=False
    )
    greet: Callable[[], Coroutine[None, None, Facts]] | None = field(default=None, compare=False)


class DiagnosedSource(Struct, frozen=True):
    """A vault and the identity that reads it.

    Attributes:
        vault: where the objects are.
        token: where the identity gets its token; None if the vault itself logs it in.
        identity: the name of the identity for messages.
        facts: more about the identity.
        fix: a command that makes the identity trust the service account; "" for none.
    """

    vault: Endpoint
    token: Endpoint | None
    identity: str
    facts: Facts
    fix: str = ""


@dataclass(frozen=True, slots=True)
class DiagnosedEntry:
    """One entry of `objects`.

    Attributes:
        name: the object, as messages name it.
        source: the index of its source.
        attributes: those of a mount of this entry only.
        ids: the IDs of its objects in the result of a mount; empty if they are not known before.
    """

    name: str
    source: int
    attributes: Mapping[str, str] = field(repr=False)
    ids: tuple[str, ...] = ()


class DiagnosisPlan(Struct, frozen=True):
    """The parts of a mount that can fail independently."""

    sources: tuple[DiagnosedSource, ...]
    entries: tuple[DiagnosedEntry, ...]


@runtime_checkable
class Diagnosable(Protocol):
    """A provider that can plan a diagnosis."""

    async def plan_diagnosis(self, call: MountCall) -> DiagnosisPlan:
        """Parse a mount call as `mount` does, and return its parts. No request is sent.

        Raises:
            KeyferryError: the error of a mount with invalid parameters or credentials.
        """
