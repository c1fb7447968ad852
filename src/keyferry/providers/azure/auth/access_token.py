"""Access tokens, and the parsing of token endpoint responses. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.providers.azure.auth.identity import ServiceAccountToken

_LONG_LIFETIME_SECONDS = 7200.0
_HEADER_SAFE = re.compile("[!-~]+")

D = TypeVar("D", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token.

    Attributes:
        text: the value for the header `Authorization`.
        expires_at: when it expires, in seconds since 1970.
        renew_at: when to request a new one, in seconds since 1970; None: shortly before it expires.

    Raises:
        MalformedTokenResponseError: `text` contains characters that a header cannot hold.
    """

    text: str = field(repr=False)
    expires_at: float
    renew_at: float | None = None

    def __post_init__(self) -> None:
        if not _HEADER_SAFE.fullmatch(self.text):
            raise MalformedTokenResponseError


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """The HTTP response of a token endpoint.

    Attributes:
        status: the HTTP status code.
        headers: the response headers.
        body: the response body; of an error response only the codes are read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class TokenRefusedError(Exception):
    """The endpoint refused a token; `token_errors` translates its response."""

    def __init__(self, response: TokenResponse) -> None:
        super().__init__(response.status)
        self.response = response


class MalformedTokenResponseError(Exception):
    """The response has status 200 but contains no valid token. It is never quoted."""


class TokenSource(Protocol):
    """Requests tokens of one identity for one resource. It does not cache them."""

    async def request_token(
        self, federated_token: ServiceAccountToken | None, seconds: float
    ) -> AccessToken:
        """Request a token once, without retries.

        Args:
            federated_token: the newest service-account token, for modes that authenticate with one.
            seconds: the timeout.

        Raises:
            TokenRefusedError: the endpoint refused.
            MalformedTokenResponseError: the response contains no valid token.
            KeyferryError: the request could not be built.
            aiohttp.ClientError, TimeoutError, OSError, ValueError: no complete response arrived.
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
    """Return the token in a response of an OAuth 2.0 endpoint, IMDS or the Azure Arc agent.

    Args:
        response: the response.
        now: when the token was requested, in seconds since 1970; the base of relative lifetimes.

    Raises:
        TokenRefusedError: the status is not 200.
        MalformedTokenResponseError: there is no token in it.
    """
    return _access_token(_decode(response, _TokenDocument), now)


def parse_nmi_token(response: TokenResponse, *, now: float) -> AccessToken:
    """Return the token in a response of NMI, which nests the token and must name the client.

    Raises:
        TokenRefusedError, MalformedTokenResponseError: as `parse_token`.
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
        # Neither quoted nor chained: the response may contain a token.
        raise MalformedTokenResponseError from None


def _access_token(document: _TokenDocument, now: float) -> AccessToken:
    expires = _parse_seconds(document.expires_on)
    if expires is None:
        lifetime = _parse_seconds(document.expires_in)
        # A token without a readable lifetime counts as expired: the next mount requests a new one.
        expires = now + (lifetime or 0.0)
    return AccessToken(document.access_token, expires, _renewal_time(document, expires, now))


def _renewal_time(document: _TokenDocument, expires_at: float, now: float) -> float | None:
    """Return the endpoint's `refresh_in`, else half of a long lifetime as Azure's SDKs do."""
    refresh_in = _parse_seconds(document.refresh_in)
    if refresh_in is not None:
        return now + refresh_in
    lifetime = expires_at - now
    return now + lifetime / 2 if lifetime >= _LONG_LIFETIME_SECONDS else None


def _parse_seconds(number: int | str | None) -> float | None:
    """Return seconds sent as a number or as digits; None for anything else."""
    text = str(number).strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
