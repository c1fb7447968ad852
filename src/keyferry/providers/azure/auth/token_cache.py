"""Access tokens for vaults, by whole identity, and what vaults say about them.

One cache of tokens belongs to one whole identity: cloud, resource, tenant, mode, client and what it
proves itself by. So no two mounts that could get different answers share a token. What is kept of
that identity as a key is a digest under a random key of this process.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from secrets import token_bytes
from typing import TYPE_CHECKING

from keyferry.aio.clock import SystemClock
from keyferry.errors import AccessDeniedError, IdentityError, KeyferryError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.net.retryable import RetryableFailure
from keyferry.providers.azure.auth.challenge import TokenTarget, parse_challenge, token_target
from keyferry.providers.azure.auth.identity import profile
from keyferry.providers.azure.auth.token_errors import TOKEN_EXCEPTIONS, token_failure
from keyferry.providers.azure.auth.token_sources import (
    AccessTokenRequest,
    TokenEndpoints,
    TokenSourceFactory,
)
from keyferry.providers.settings import ProviderSettings
from keyferry.resilience.cache_key import IdentityHasher
from keyferry.resilience.call_context import CallContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from keyferry.aio.clock import Clock
    from keyferry.net.http_client import HttpsClient
    from keyferry.providers.azure.auth.access_token import AccessToken, TokenSource
    from keyferry.providers.azure.auth.identity import Identity
    from keyferry.resilience.cache_key import IdentityKey
    from keyferry.resilience.transport import RetryingTransport

_RENEW_BEFORE_SECONDS = 300.0
_RENEW_BEFORE_SHARE = 0.2
"""A token is renewed so long before it expires, or in this last part of a short life."""
_EXPIRY_MARGIN_SECONDS = 60.0
_EXPIRY_MARGIN_SHARE = 0.05
"""It is not used any more in its last minute, or in this last part of a short life."""
_RENEW_RETRY_SECONDS = 30.0
"""A renewal that failed is tried again after this."""


@dataclass(frozen=True, slots=True)
class _InFlightRequest:
    """A request for a token that is under way.

    Attributes:
        identity: whose proof it uses; another mount's may be newer.
        task: the request.
    """

    identity: Identity
    task: asyncio.Task[str]


class CachedToken:
    """One request at a time, and its result while it lasts.

    Args:
        https: reads the headers of refusals.
        transport: limits and retries requests.
        source_factory: makes the source when it is first needed.
        clock: reads the time.
    """

    def __init__(
        self,
        https: HttpsClient,
        transport: RetryingTransport,
        source_factory: TokenSourceFactory,
        clock: Clock,
    ) -> None:
        self._https = https
        self._transport = transport
        self._source_factory = source_factory
        self._clock = clock
        self._source: TokenSource | None = None
        self._in_flight: _InFlightRequest | None = None
        self._token: AccessToken | None = None
        self._renew_at = 0.0
        self._use_until = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for a token of it."""
        return self._in_flight is None or self._in_flight.task.done()

    async def get_token(self, request: AccessTokenRequest) -> str:
        """The kept token; else join the request that is under way, or make one."""
        now = self._clock.wall().timestamp()
        if self._token is not None and now < self._use_until:
            if now >= self._renew_at and self.is_idle:
                self._renew_at = now + _RENEW_RETRY_SECONDS
                self._start_request(request)
            return self._token.text
        flight = self._in_flight
        if flight is None or flight.task.done():
            flight = self._start_request(request)
        try:
            return await asyncio.shield(flight.task)
        except KeyferryError:
            if flight.identity == request.identity:
                raise
        # It failed with the proof of another pod; ours may be newer.
        return await asyncio.shield(self._start_request(request).task)

    def invalidate(self, token: str) -> None:
        """Drop what is kept, unless somebody has got a newer one meanwhile."""
        if self._token is not None and token == self._token.text:
            self._source = None
            self._token = None

    async def close(self) -> None:
        """Cancel the request that is under way."""
        if self._in_flight is not None:
            self._in_flight.task.cancel()
            await asyncio.wait([self._in_flight.task])

    def _start_request(self, request: AccessTokenRequest) -> _InFlightRequest:
        task = asyncio.create_task(self._request_token(request))
        task.add_done_callback(_consume_exception)
        self._in_flight = _InFlightRequest(request.identity, task)
        return self._in_flight

    async def _request_token(self, request: AccessTokenRequest) -> str:
        if self._source is None:
            self._source = self._source_factory.create(request)
        details = profile(request.identity)
        host = self._source_factory.endpoint_host(details.token_service, request.cloud)
        ask = partial(self._source.request_token, details.service_account_token)
        kept = await self._transport.send(
            partial(self._try_once, ask, request, host),
            CallContext.new(host, mode=details.mode.value),
        )
        left = max(kept.expires_at - self._clock.wall().timestamp(), 0.0)
        renew_at = kept.expires_at - min(_RENEW_BEFORE_SECONDS, left * _RENEW_BEFORE_SHARE)
        self._renew_at = renew_at if kept.renew_at is None else min(renew_at, kept.renew_at)
        self._use_until = kept.expires_at - min(_EXPIRY_MARGIN_SECONDS, left * _EXPIRY_MARGIN_SHARE)
        self._token = kept
        return kept.text

    async def _try_once(
        self,
        ask: Callable[[float], Awaitable[AccessToken]],
        request: AccessTokenRequest,
        host: str,
        seconds: float,
    ) -> AccessToken | RetryableFailure:
        try:
            return await ask(min(seconds, self._https.settings.try_timeout))
        except TOKEN_EXCEPTIONS as error:
            failure = token_failure(
                error, identity=request.identity, tenant=request.tenant, host=host
            )
            # Not chained: what came from the endpoint goes no further than this.
            if not failure.transient:
                raise failure.error from None
            headers = failure.response.headers if failure.response else {}
            # One identity that is not known yet is no reason to leave the others without tokens.
            status = failure.response.status if failure.response else None
            of_server = status is None or status >= 500
            retry_after = self._https.retry_after(headers)
            return RetryableFailure(failure.error, retry_after, host_fault=of_server)


def _consume_exception(task: asyncio.Task[str]) -> None:
    """Take note of a failure that nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


__all__ = ["AccessTokenRequest", "TokenCache", "TokenProvider"]


class TokenCache:
    """The credentials in use, by whole identity; the longest unused go when they are too many.

    Args:
        https: the connections to the token endpoints.
        transport: limits and retries requests to the token endpoints.
        settings: the token proxy.
        endpoints: where tokens come from; None: where the settings say.
        max_entries: so many are kept.
        clock: reads the time.
    """

    def __init__(
        self,
        https: HttpsClient,
        transport: RetryingTransport,
        settings: ProviderSettings | None = None,
        *,
        endpoints: TokenEndpoints | None = None,
        max_entries: int = 512,
        clock: Clock | None = None,
    ) -> None:
        endpoints = endpoints or TokenEndpoints.from_settings(
            settings or ProviderSettings(), https.settings.dev
        )
        self._https = https
        self._transport = transport
        self._clock = clock or SystemClock()
        self._identity_hasher = IdentityHasher(token_bytes(32))
        self._source_factory = TokenSourceFactory(https, endpoints, self._clock)
        self._cached_tokens: BoundedDict[Hashable, CachedToken] = BoundedDict(
            max_entries, is_evictable=lambda credential: credential.is_idle
        )
        self._redirects: BoundedDict[Hashable, TokenTarget] = BoundedDict(max_entries)

    def token_provider(self, request: AccessTokenRequest, *, host: str = "") -> TokenProvider:
        """The tokens for `request`.

        Args:
            request: who, of whom, for what, as the class says it.
            host: of the vault that they are for; what it asked for before counts. "" for any.

        Raises:
            IdentityError: this machine cannot have such an identity.
        """
        located = replace(request, identity=self._source_factory.resolve(request.identity))
        return TokenProvider(self, located, self.identity_key(located), host)

    async def close(self) -> None:
        """Give up every request for a token that is under way."""
        for credential in self._cached_tokens.values():
            await credential.close()
        self._cached_tokens.clear()

    def cached_token(self, identity: IdentityKey) -> CachedToken:
        """Return the cached token of an identity; it is requested when it is first used."""
        token = self._cached_tokens.touch(identity)
        if token is None:
            token = CachedToken(self._https, self._transport, self._source_factory, self._clock)
            self._cached_tokens[identity] = token
        return token

    def identity_key(self, request: AccessTokenRequest) -> IdentityKey:
        """As whom `request` asks a vault."""
        return self._identity_hasher.identity_key(
            profile(request.identity).mode.value, request.identity_parts
        )

    def redirect(self, identity: IdentityKey, host: str) -> TokenTarget | None:
        """Return the tenant and resource that the vault at `host` asked for, if it did."""
        return self._redirects.touch((identity, host))

    def remember_redirect(self, identity: IdentityKey, host: str, target: TokenTarget) -> None:
        """Remember that the vault at `host` wants tokens of `identity` for `target`."""
        self._redirects[identity, host] = target


class TokenProvider:
    """The access tokens of one identity for the requests of one mount.

    Args:
        cache: holds the tokens.
        request: tenant, resource and identity as configured in the SecretProviderClass.
        identity: the key of `request`.
        host: the vault that the tokens are for.

    Attributes:
        identity: the key of the configured identity, whatever tenant the vault asks for.
    """

    def __init__(
        self, cache: TokenCache, request: AccessTokenRequest, identity: IdentityKey, host: str
    ) -> None:
        self._cache = cache
        self._configured_request = request
        self._host = host
        self.identity = identity
        self._effective_request = request
        self._cached_token: CachedToken | None = None
        if redirect := cache.redirect(identity, host):
            self._effective_request = replace(
                request, tenant=redirect.tenant, resource=redirect.resource
            )

    async def get_token(self) -> str:
        """A token that should be good.

        Raises:
            IdentityError: the token endpoint refuses.
            AccessDeniedError: it refuses one of the tenant that the vault wants, which is not that
                of the class.
            ConnectionFailedError: the token endpoint cannot be reached.
        """
        stated, login = self._configured_request, self._effective_request
        if self._cached_token is None:
            key = self.identity if login is stated else self._cache.identity_key(login)
            self._cached_token = self._cache.cached_token(key)
        try:
            token = await self._cached_token.get_token(login)
        except IdentityError as error:
            if login.tenant == stated.tenant:
                raise
            raise AccessDeniedError(
                f"vault {self._host} does not accept the token (401): it trusts "
                f"{login.cloud.authority}/{login.tenant}, and the token comes from "
                f"{stated.cloud.authority}/{stated.tenant}; there {error.problem}",
                "Set tenantID of the class to that of the vault, and use an identity of it: "
                f"az keyvault show --name {self._host.partition('.')[0]} "
                "--query properties.tenantId",
            ) from None
        if login is not stated and login.identity_parts != stated.identity_parts:
            wanted = TokenTarget(login.tenant, login.resource)
            self._cache.remember_redirect(self.identity, self._host, wanted)
        return token

    def invalidate(self, token: str, challenge: str = "") -> None:
        """Hear that the vault did not accept `token`, so that the next one is better.

        Args:
            token: the refused one.
            challenge: the header `WWW-Authenticate` that came with the refusal.

        Raises:
            AccessDeniedError: the vault wants a token that is meant for somebody else.
        """
        stated = self._configured_request
        wanted = token_target(
            parse_challenge(challenge),
            TokenTarget(stated.tenant, stated.effective_resource),
            host=self._host,
            authority=stated.cloud.authority,
        )
        better = replace(stated, tenant=wanted.tenant, resource=wanted.resource)
        # A vault may have moved to another tenant, so what it wanted before does not bind us.
        self._effective_request, former = better, self._effective_request
        refused, self._cached_token = self._cached_token, None
        if refused is not None and better.identity_parts == former.identity_parts:
            refused.invalidate(token)
