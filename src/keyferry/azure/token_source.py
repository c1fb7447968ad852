"""What a token endpoint gives, refuses or says that makes no sense. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.azure.service_account import ServiceAccountToken

_LONG_LIFE_SECONDS = 7200.0
_SENDABLE = re.compile("[!-~]+")

D = TypeVar("D", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token.

    Attributes:
        text: as it goes into the header `Authorization`.
        expires: seconds since 1970.
        renew: from when a newer one is better, in seconds since 1970; None: until it nears its end.

    Raises:
        NoTokenInAnswerError: `text` cannot go into a header, so it is no token.
    """

    text: str = field(repr=False)
    expires: float
    renew: float | None = None

    def __post_init__(self) -> None:
        if not _SENDABLE.fullmatch(self.text):
            raise NoTokenInAnswerError


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What a token endpoint said, whether it gave a token or not.

    Attributes:
        status: of HTTP.
        headers: of the answer.
        body: of the answer; of a refusal only its codes are read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class TokenRefusedError(Exception):
    """The endpoint answered with no token; `keyferry.azure.token_errors` says what that means."""

    def __init__(self, answer: TokenAnswer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class NoTokenInAnswerError(Exception):
    """The answer is a success and holds no token. It is never quoted."""


class TokenSource(Protocol):
    """Gets the tokens of one identity, for one resource; keeps none."""

    async def token(self, proof: ServiceAccountToken | None, seconds: float) -> AccessToken:
        """Ask for a token once.

        Args:
            proof: the newest token of the service account, in the modes that prove themselves so.
            seconds: the time limit.

        Raises:
            TokenRefusedError: the endpoint said no.
            NoTokenInAnswerError: it said something without sense.
            KeyferryError: no request could be made.
            aiohttp.ClientError, TimeoutError, OSError, ValueError: no whole answer came.
        """


class _TokenDocument(msgspec.Struct):
    access_token: str = ""
    expires_in: int | str | None = None
    expires_on: int | str | None = None
    refresh_in: int | str | None = None


class _NmiDocument(msgspec.Struct):
    token: _TokenDocument
    clientid: str = ""


def parse_token(answer: TokenAnswer, *, now: float) -> AccessToken:
    """The token in the answer of an OAuth 2.0 endpoint, of IMDS, or of the agent of Azure Arc.

    Args:
        answer: as it came.
        now: seconds since 1970 when it was asked for, for endpoints that tell lifetimes.

    Raises:
        TokenRefusedError: its status is not 200.
        NoTokenInAnswerError: there is no token in it.
    """
    return _access_token(_decode(answer, _TokenDocument), now)


def parse_nmi_token(answer: TokenAnswer, *, now: float) -> AccessToken:
    """The token in an answer of NMI, which wraps it and must name the client.

    Raises:
        As `parse_token`.
    """
    document = _decode(answer, _NmiDocument)
    if not document.clientid:
        raise NoTokenInAnswerError
    return _access_token(document.token, now)


def _decode(answer: TokenAnswer, document: type[D]) -> D:
    if answer.status != 200:
        raise TokenRefusedError(answer)
    try:
        return msgspec.json.decode(answer.body, type=document)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # Neither quoted nor chained: the answer may hold a token.
        raise NoTokenInAnswerError from None


def _access_token(document: _TokenDocument, now: float) -> AccessToken:
    expires = _seconds(document.expires_on)
    if expires is None:
        lifetime = _seconds(document.expires_in)
        # A lifetime that cannot be read is none at all: the next mount asks anew.
        expires = now + (lifetime or 0.0)
    return AccessToken(document.access_token, expires, _renew(document, expires, now))


def _renew(document: _TokenDocument, expires: float, now: float) -> float | None:
    """When to renew: as the endpoint says, else in the middle of a long life, as its clients do."""
    told = _seconds(document.refresh_in)
    if told is not None:
        return now + told
    lifetime = expires - now
    return now + lifetime / 2 if lifetime >= _LONG_LIFE_SECONDS else None


def _seconds(number: int | str | None) -> float | None:
    """Seconds that came as a number or as its digits."""
    text = str(number).strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
