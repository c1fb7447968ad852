"""The tokens of the service accounts of SecretSyncs.

A token is used for 80 % of its life. All SecretSyncs of a service account share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from keyferry.aio.single_flight import SharedCall, copy_without_traceback
from keyferry.errors import IdentityError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.sync_controller.rules.refusals import audience_error

if TYPE_CHECKING:
    from collections.abc import Collection

    from keyferry.aio.clock import Clock
    from keyferry.sync_controller.rules.request import Token
    from keyferry.sync_controller.settings import TokenSettings

MAX_TOKENS = 10_000
FAILURE_SECONDS = 5.0
"""How long a refusal counts for all SecretSyncs of a service account."""
USED_FRACTION = 0.8
"""How much of its life a token is used."""


class TokenKey(Struct, frozen=True):
    """What a token is for."""

    namespace: str
    service_account: str
    audience: str


class TokenIssuer(Protocol):
    """Requests tokens of service accounts."""

    async def issue(self, key: TokenKey) -> Token:
        """Return a new token.

        Raises:
            IdentityError: none is issued.
        """


class _Held(Struct, frozen=True):
    token: Token | IdentityError
    use_until: float


class _Request(Struct, eq=False):
    """A request in flight; `call` is set at once."""

    call: SharedCall[Token] | None = None


class ServiceAccountTokens:
    """Requests and caches tokens.

    Args:
        issuer: requests them.
        settings: the permitted audiences.
        clock: measures their age.
    """

    def __init__(self, issuer: TokenIssuer, settings: TokenSettings, clock: Clock) -> None:
        self._issuer = issuer
        self._audiences = frozenset(settings.audiences)
        self._clock = clock
        self._held: BoundedDict[TokenKey, _Held] = BoundedDict(MAX_TOKENS)
        self._requests: dict[TokenKey, _Request] = {}

    async def tokens(
        self, namespace: str, service_account: str, audiences: Collection[str] | None
    ) -> dict[str, Token]:
        """Return the tokens of a service account by audience.

        Args:
            namespace: of the service account.
            service_account: its name.
            audiences: those that are needed; None for all permitted ones.

        Raises:
            IdentityError: an audience is not permitted, or the API issues no token.
        """
        wanted = self._audiences if audiences is None else frozenset(audiences)
        if forbidden := wanted - self._audiences:
            raise audience_error(forbidden, self._audiences)
        keys = [TokenKey(namespace, service_account, audience) for audience in sorted(wanted)]
        return {key.audience: await self._token(key) for key in keys}

    def forget(self, namespace: str, service_account: str) -> None:
        """Forget the tokens of a service account, because it was changed or deleted.

        Also those that are requested just now.
        """
        for known in (self._held, self._requests):
            for key in list(known):
                if (key.namespace, key.service_account) == (namespace, service_account):
                    del known[key]

    async def _token(self, key: TokenKey) -> Token:
        held = self._held.touch(key)
        if held is not None and self._clock.monotonic() < held.use_until:
            if isinstance(held.token, IdentityError):
                raise copy_without_traceback(held.token)
            return held.token
        request = self._requests.get(key)
        if request is None:
            request = self._requests[key] = _Request()
            request.call = self._start(key, request)
        assert request.call is not None
        return await request.call.wait()

    def _start(self, key: TokenKey, request: _Request) -> SharedCall[Token]:
        return SharedCall(self._issue(key, request), lambda: self._request_done(key, request))

    def _request_done(self, key: TokenKey, request: _Request) -> None:
        if self._requests.get(key) is request:
            del self._requests[key]

    async def _issue(self, key: TokenKey, request: _Request) -> Token:
        started = self._clock.monotonic()
        try:
            token = await self._issuer.issue(key)
        except IdentityError as error:
            refusal = copy_without_traceback(error)
            self._hold(key, request, _Held(refusal, started + FAILURE_SECONDS))
            raise
        self._hold(key, request, _Held(token, started + USED_FRACTION * token.seconds))
        return token

    def _hold(self, key: TokenKey, request: _Request, held: _Held) -> None:
        if self._requests.get(key) is request:  # it was not forgotten meanwhile
            self._held[key] = held
