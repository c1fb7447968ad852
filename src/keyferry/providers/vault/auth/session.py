"""Sessions: the login of one identity, and its token, which is cached, renewed and shared."""

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
    from keyferry.resilience.call_context import Caller, Purpose
    from keyferry.resilience.transport import RetryingTransport

RENEW_SELF_PATH = "/v1/auth/token/renew-self"


class Principal(Protocol):
    """The vault and the kind of login of a request; `Login` and `LeaseOrigin` implement it."""

    @property
    def server(self) -> Server:
        """The vault."""

    @property
    def mode(self) -> str:
        """The kind of the login in one word."""

    @property
    def caller(self) -> Caller:
        """On whose behalf the vault is called."""


def context_for(principal: Principal, purpose: Purpose) -> CallContext:
    """Return the context of a call whose response is not shared.

    Args:
        principal: the vault, the kind of login and the caller.
        purpose: first mount or refresh.
    """
    return CallContext.new(
        principal.server.endpoint, purpose, mode=principal.mode, caller=principal.caller
    )


class VaultTransport:
    """Sends requests to vaults within their rate limits, with retries.

    Args:
        http: sends single requests.
        transport: limits and retries requests.
        clock: source of the current time.

    Attributes:
        now: returns the current time in seconds of the monotonic clock.
    """

    def __init__(self, http: VaultHttp, transport: RetryingTransport, clock: Clock) -> None:
        self._http = http
        self._transport = transport
        self.now = clock.monotonic

    def send(
        self, server: Server, request: VaultRequest, context: CallContext
    ) -> Awaitable[RawResponse]:
        """Send a request and return the response, which may be an error response.

        Args:
            server: the vault.
            request: the request.
            context: context of the call.

        Raises:
            ClassInvalidError: the SecretProviderClass may not name the address of the vault.
            VaultError: the vault did not respond, or was unavailable in all tries.
        """
        # Before the limiter, so that it does not count as a failure of the host.
        self._http.check_address(server, request.action)
        return self._transport.send(
            lambda seconds: self._http.send(server, request, seconds), context
        )

    async def renew_token(self, principal: Principal, token: VaultToken, purpose: Purpose) -> bool:
        """Renew a token and update its times; return whether the vault renewed it.

        Args:
            principal: the vault and the kind of login.
            token: token to renew.
            purpose: first mount or refresh.

        Raises:
            VaultError: the vault does not respond.
        """
        action = f"renew a token of {principal.server}"
        request = VaultRequest(RENEW_SELF_PATH, action, "PUT", b"{}", token=token.value)
        now = self.now()
        raw = await self.send(principal.server, request, context_for(principal, purpose))
        if not raw.ok:
            return False
        try:
            renewed = parse_token(parse_response(raw.body), now)
        except MalformedResponseError:
            return False
        # Close to its maximum TTL, a token is renewed for shorter and shorter times.
        shrinks = renewed.ttl and renewed.ttl < token.ttl / 3
        token.ttl, token.issued_at = renewed.ttl, now
        token.renewable = renewed.renewable and not shrinks
        return True


class Session:
    """Logs in as one identity, and caches and renews its token.

    Args:
        transport: sends requests to vaults.
        token_requester: requests service-account tokens that kubelet did not send.
    """

    def __init__(self, transport: VaultTransport, token_requester: TokenRequester) -> None:
        self._transport = transport
        self._token_requester = token_requester
        self._token: VaultToken | None = None
        self._in_flight: dict[str, tuple[Login, SharedCall[VaultToken]]] = {}

    @property
    def cached_token(self) -> VaultToken | None:
        """The cached token, which may have expired; None without one."""
        return self._token

    async def get_token(self, login: Login, purpose: Purpose) -> VaultToken:
        """Return a valid token.

        1. The cached token is not yet due for renewal: it is returned.
        2. No login is in flight: the token is renewed, or the identity logs in again.
        3. A login of this namespace is in flight: the caller shares its result. Those of other
           namespaces may wait for their turn, or fail at their circuit breakers.
        4. That login failed with older credentials than those of the caller: the caller logs in, or
           shares the login that another caller has started meanwhile.

        Args:
            login: login with the latest credentials of this identity.
            purpose: first mount or refresh.

        Raises:
            IdentityError: the vault rejected the login.
            VaultError: the vault does not respond.
        """
        cached = self._token
        if cached is not None and self._transport.now() < cached.renew_at:
            return cached
        tenant = login.caller.tenant
        in_flight = self._in_flight.get(tenant)
        if in_flight is None:
            return await self._start_login(login, purpose).wait()
        shared_login, shared_call = in_flight
        try:
            return await shared_call.wait()
        except KeyferryError:
            if shared_login.method == login.method:
                raise
        newer = self._in_flight.get(tenant)
        return await (newer[1] if newer else self._start_login(login, purpose)).wait()

    def invalidate(self, token: VaultToken) -> None:
        """Remove a rejected token from the cache, unless a newer one is cached."""
        if self._token is token:
            self._token = None

    def _start_login(self, login: Login, purpose: Purpose) -> SharedCall[VaultToken]:
        tenant = login.caller.tenant
        call = SharedCall(self._renew_or_log_in(login, purpose), lambda: self._login_done(tenant))
        self._in_flight[tenant] = (login, call)
        return call

    def _login_done(self, tenant: str) -> None:
        self._in_flight.pop(tenant, None)

    async def _renew_or_log_in(self, login: Login, purpose: Purpose) -> VaultToken:
        cached = self._token
        if cached is not None and cached.renewable and self._transport.now() < cached.expires_at:
            renewed = await self._transport.renew_token(login, cached, purpose)
            if renewed and self._transport.now() < cached.renew_at:
                return cached
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
        action = f"log in to {login.server} at auth/{login.auth_mount}"
        request = VaultRequest(
            f"/v1/{login.path}", action, "POST", login.body(jwt), secrets=login.secrets(jwt)
        )
        now = self._transport.now()
        context = context_for(login, purpose)
        raw = await self._transport.send(login.server, request, context)
        if not raw.ok:
            raise login_error(raw.status, raw.errors, login, secrets=request.secrets)
        try:
            return parse_token(parse_response(raw.body), now)
        except MalformedResponseError as error:
            raise IdentityError(
                f"failed to {action}: the response cannot be used: {error}",
                f"Check that auth/{login.auth_mount} is an auth method for machines, and that "
                f"{login.server.host} is a vault.",
            ) from None
