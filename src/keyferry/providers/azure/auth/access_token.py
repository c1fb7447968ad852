"""What a token endpoint gives, refuses or says that makes no sense. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.azure.auth.service_account import ServiceAccountToken

_LONG_LIFETIME_SECONDS = 7200.0
_HEADER_SAFE = re.compile("[!-~]+")

D = TypeVar("D", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token.

    Attributes:
        text: as it goes into the header `Authorization`.
        expires_at: seconds since 1970.
        renew_at: from when a newer one is better, in seconds since 1970; None: until it nears its
            end.

    Raises:
        NoTokenInAnswerError: `text` cannot go into a header, so it is no token.
    """

    text: str = field(repr=False)
    expires_at: float
    renew_at: float | None = None

    def __post_init__(self) -> None:
        if not _HEADER_SAFE.fullmatch(self.text):
            raise MalformedTokenResponseError


@dataclass(frozen=True, slots=True)
class TokenResponse:
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
    """The endpoint answered with no token; `token_errors` says what that means."""

    def __init__(self, response: TokenResponse) -> None:
        super().__init__(response.status)
        self.response = response


class MalformedTokenResponseError(Exception):
    """The answer is a success and holds no token. It is never quoted."""


class TokenSource(Protocol):
    """Gets the tokens of one identity, for one resource; keeps none."""

    async def request_token(
        self, federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Ask for a token once.

        Args:
            federated_token: the newest token of the service account, in the modes that prove
                themselves so.
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


def parse_token(response: TokenResponse, *, now: float) -> AccessToken:
    """The token in the answer of an OAuth 2.0 endpoint, of IMDS, or of the agent of Azure Arc.

    Args:
        response: as it came.
        now: seconds since 1970 when it was asked for, for endpoints that tell lifetimes.

    Raises:
        TokenRefusedError: its status is not 200.
        NoTokenInAnswerError: there is no token in it.
    """
    return _access_token(_decode(response, _TokenDocument), now)


def parse_nmi_token(response: TokenResponse, *, now: float) -> AccessToken:
    """The token in an answer of NMI, which wraps it and must name the client.

    Raises:
        As `parse_token`.
    """
    document = _decode(response, _NmiDocument)
    if not document.clientid:
        raise MalformedTokenResponseError
    return _access_token(document.token, now)


def _decode(response: TokenResponse, document: type[D]) -> D:
    if response.status != 200:
        raise TokenRefusedError(response)
    try:
        return msgspec.json.decode(response.body, type=document)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # Neither quoted nor chained: the answer may hold a token.
        raise MalformedTokenResponseError from None


def _access_token(document: _TokenDocument, now: float) -> AccessToken:
    expires = _parse_seconds(document.expires_on)
    if expires is None:
        lifetime = _parse_seconds(document.expires_in)
        # A lifetime that cannot be read is none at all: the next mount asks anew.
        expires = now + (lifetime or 0.0)
    return AccessToken(document.access_token, expires, _renewal_time(document, expires, now))


def _renewal_time(document: _TokenDocument, expires_at: float, now: float) -> float | None:
    """When to renew: as the endpoint says, else in the middle of a long life, as its clients do."""
    told = _parse_seconds(document.refresh_in)
    if told is not None:
        return now + told
    lifetime = expires_at - now
    return now + lifetime / 2 if lifetime >= _LONG_LIFETIME_SECONDS else None


def _parse_seconds(number: int | str | None) -> float | None:
    """Seconds that came as a number or as its digits."""
    text = str(number).strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
