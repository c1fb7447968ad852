"""One login and the token that came of it: kept, renewed, and asked for once by all who wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from keyferry.aio.single_flight import SharedCall
from keyferry.errors import IdentityError, KeyferryError
from keyferry.providers.vault.auth.login import JwtLogin, Login, TokenLogin
from keyferry.providers.vault.auth.login_errors import login_error
from keyferry.providers.vault.auth.token import VaultToken, parse_token
from keyferry.providers.vault.http.client import RawResponse, VaultRequest
from keyferry.providers.vault.http.response import MalformedResponseError, parse_response
from keyferry.resilience.call_context import CallContext

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from keyferry.aio.clock import Clock
    from keyferry.providers.vault.auth.service_account_tokens import TokenRequester
    from keyferry.providers.vault.http.client import VaultHttp
    from keyferry.providers.vault.http.server import Server
    from keyferry.resilience.call_context import Purpose
    from keyferry.resilience.fetcher import Fetcher

RENEW_SELF_PATH = "/v1/auth/token/renew-self"


class Principal(Protocol):
    """Who asks which vault."""

    @property
    def server(self) -> Server:
        """The vault."""

    @property
    def mode(self) -> str:
        """The kind of the login, one word."""


def context_for(principal: Principal, purpose: Purpose) -> CallContext:
    """Return the context of a call whose response is not shared."""
    return CallContext.new(principal.server.host, purpose, mode=principal.mode)


class VaultTransport:
    """The way to all vaults: requests in their turns, with further tries.

    Args:
        http: makes single requests.
        fetcher: decides about turns and tries.
        clock: how time passes.
    """

    def __init__(self, http: VaultHttp, fetcher: Fetcher, clock: Clock) -> None:
        self._http = http
        self._transport = fetcher.transport
        self.now = clock.monotonic

    def send(
        self, server: Server, request: VaultRequest, context: CallContext
    ) -> Awaitable[RawResponse]:
        """The answer to a request, be it a refusal.

        Raises:
            VaultError: none came, or the vault says "later" to the last.
        """
        return self._transport.send(
            lambda seconds: self._http.send(server, request, seconds), context
        )

    async def renew_token(self, principal: Principal, token: VaultToken, purpose: Purpose) -> bool:
        """Have a token renewed; whether the vault did.

        Raises:
            VaultError: the vault does not answer.
        """
        why = f"renew a token of {principal.server}"
        request = VaultRequest(RENEW_SELF_PATH, why, "PUT", b"{}", token=token.value)
        now = self.now()
        reply = await self.send(principal.server, request, context_for(principal, purpose))
        if not reply.ok:
            return False
        try:
            renewed = parse_token(parse_response(reply.body), now)
        except MalformedResponseError:
            return False
        # Near the greatest age that it may have, a token is renewed for ever shorter times.
        shrinks = renewed.ttl and renewed.ttl < token.ttl / 3
        token.ttl, token.issued_at = renewed.ttl, now
        token.renewable = renewed.renewable and not shrinks
        return True


class Session:
    """The token of one identity.

    Args:
        transport: where it is asked for.
        token_requester: makes service-account tokens where kubelet sent none.
    """

    def __init__(self, transport: VaultTransport, token_requester: TokenRequester) -> None:
        self._transport = transport
        self._token_requester = token_requester
        self._token: VaultToken | None = None
        self._in_flight: tuple[Login, SharedCall[VaultToken]] | None = None

    @property
    def cached_token(self) -> VaultToken | None:
        """The token that is kept, good or not."""
        return self._token

    async def get_token(self, login: Login, purpose: Purpose) -> VaultToken:
        """A token that should be good.

        Args:
            login: with the newest proof of this identity.
            purpose: why.

        Raises:
            IdentityError: the vault refuses the login.
            VaultError: it does not answer.
        """
        kept = self._token
        if kept is not None and self._transport.now() < kept.renew_at:
            return kept
        joined = self._in_flight
        if joined is None:
            return await self._start_login(login, purpose).wait()
        try:
            return await joined[1].wait()
        except KeyferryError:
            if joined[0].method == login.method:
                raise
        # It failed with the proof of another pod; ours may be newer.
        flight = self._in_flight[1] if self._in_flight else self._start_login(login, purpose)
        return await flight.wait()

    def invalidate(self, token: VaultToken) -> None:
        """Drop a token that was refused, unless there is a newer one."""
        if self._token is token:
            self._token = None

    def _start_login(self, login: Login, purpose: Purpose) -> SharedCall[VaultToken]:
        flight = SharedCall(self._renew_or_log_in(login, purpose), self._login_done)
        self._in_flight = (login, flight)
        return flight

    def _login_done(self) -> None:
        self._in_flight = None

    async def _renew_or_log_in(self, login: Login, purpose: Purpose) -> VaultToken:
        kept = self._token
        if kept is not None and kept.renewable and self._transport.now() < kept.expires_at:
            renewed = await self._transport.renew_token(login, kept, purpose)
            if renewed and self._transport.now() < kept.renew_at:
                return kept
        self._token = await self._log_in(login, purpose)
        return self._token

    async def _log_in(self, login: Login, purpose: Purpose) -> VaultToken:
        if isinstance(login.method, TokenLogin):
            return VaultToken(
                login.method.token, ttl=0, issued_at=self._transport.now(), renewable=False
            )
        jwt = ""
        if isinstance(login.method, JwtLogin):
            jwt = login.method.token or await self._token_requester.request_token(
                login.pod, login.method.audience
            )
        why = f"log in to {login.server} at auth/{login.auth_mount}"
        request = VaultRequest(
            f"/v1/{login.path}", why, "POST", login.body(jwt), secrets=login.secrets(jwt)
        )
        now = self._transport.now()
        context = context_for(login, purpose)
        reply = await self._transport.send(login.server, request, context)
        if not reply.ok:
            raise login_error(reply.status, reply.errors, login, secrets=request.secrets)
        try:
            return parse_token(parse_response(reply.body), now)
        except MalformedResponseError as error:
            raise IdentityError(
                f"failed to {why}: the answer cannot be used: {error}",
                f"Check that auth/{login.auth_mount} is an auth method for machines, and that "
                f"{login.server.host} is a vault.",
            ) from None
