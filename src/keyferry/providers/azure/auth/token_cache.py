"""Caches access tokens by complete identity, and the redirects of vaults to other tenants.

A complete identity consists of cloud, resource, tenant, mode, client and credential. Two mounts
that could get different responses therefore never share a token. The cache key is a digest of the
identity, keyed by a random key of this process.
"""

from __future__ import annotations

import asyncio
from functools import partial
from secrets import token_bytes
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.aio.clock import SystemClock
from keyferry.aio.tasks import shielded
from keyferry.errors import AccessDeniedError, Denial, IdentityError, KeyferryError, Stage
from keyferry.formats.bounded_dict import FairBoundedDict
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
from keyferry.records import replace
from keyferry.resilience.cache_key import IdentityHasher
from keyferry.resilience.call_context import KEYFERRY, CallContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from keyferry.aio.clock import Clock
    from keyferry.aio.jobs import JobRunner
    from keyferry.net.http_client import HttpsClient
    from keyferry.providers.azure.auth.access_token import AccessToken, TokenSource
    from keyferry.providers.azure.auth.identity import Identity, TokenService
    from keyferry.providers.azure.clouds import AzureCloud
    from keyferry.resilience.cache_key import IdentityKey
    from keyferry.resilience.call_context import Caller
    from keyferry.resilience.transport import RetryingTransport

MAX_IDENTITIES = 2048
"""The cached tokens: 250 pods with several identities each."""
_RENEW_BEFORE_SECONDS = 300.0
_RENEW_BEFORE_SHARE = 0.2
"""A token is renewed this long before it expires, or in this last share of a short lifetime."""
_EXPIRY_MARGIN_SECONDS = 60.0
_EXPIRY_MARGIN_SHARE = 0.05
"""A token is not used this long before it expires, or in this last share of a short lifetime."""
_RENEW_RETRY_SECONDS = 30.0
"""A failed renewal is retried after this."""


class _InFlightRequest(Struct, frozen=True):
    """A token request in flight.

    Attributes:
        identity: the identity with the credential that it uses; another mount may have a newer one.
        task: the request.
    """

    identity: Identity
    task: asyncio.Task[str]


class CachedToken:
    """The access token of one identity: requested once, shared until it expires.

    Args:
        https: provides the timeout of a request and parses `Retry-After`.
        transport: limits and retries requests.
        source_factory: creates the token source on first use.
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
        self._in_flight: dict[str, _InFlightRequest] = {}
        self._token: AccessToken | None = None
        self._renew_at = 0.0
        self._use_until = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight."""
        return all(flight.task.done() for flight in self._in_flight.values())

    async def get_token(self, request: AccessTokenRequest, caller: Caller) -> str:
        """Return an access token. There are four cases.

        1. The cached token is valid: return it. If it is due for renewal, also renew it in the
           background.
        2. A request of this namespace is in flight: wait for it. Those of other namespaces may
           wait for their turn, or fail at their circuit breakers.
        3. There is neither: send a request.
        4. The awaited request failed, but with another pod's credential: send one with this pod's.

        Args:
            request: the identity and the token endpoint.
            caller: on whose behalf the token is requested.

        Raises:
            KeyferryError: the request failed.
        """
        now = self._clock.wall().timestamp()
        if self._token is not None and now < self._use_until:
            if now >= self._renew_at and self.is_idle:
                self._renew_at = now + _RENEW_RETRY_SECONDS
                self._start_request(request, caller)
            return self._token.text
        flight = self._in_flight.get(caller.tenant)
        if flight is None or flight.task.done():
            flight = self._start_request(request, caller)
        try:
            return await shielded(flight.task)
        except KeyferryError:
            if flight.identity == request.identity:
                raise
        return await shielded(self._start_request(request, caller).task)

    def invalidate(self, token: str) -> None:
        """Drop the cached token if it is still `token`, not a newer one."""
        if self._token is not None and token == self._token.text:
            self._source = None
            self._token = None

    async def close(self) -> None:
        """Cancel the requests in flight."""
        for flight in self._in_flight.values():
            flight.task.cancel()
            await asyncio.wait([flight.task])

    def _start_request(self, request: AccessTokenRequest, caller: Caller) -> _InFlightRequest:
        task = asyncio.create_task(self._request_token(request, caller))
        task.add_done_callback(_consume_exception)
        self._in_flight = {
            tenant: flight for tenant, flight in self._in_flight.items() if not flight.task.done()
        }
        flight = self._in_flight[caller.tenant] = _InFlightRequest(request.identity, task)
        return flight

    async def _request_token(self, request: AccessTokenRequest, caller: Caller) -> str:
        if self._source is None:
            self._source = self._source_factory.create(request)
        details = profile(request.identity)
        host = self._source_factory.endpoint_host(details.token_service, request.cloud)
        request_token = partial(self._source.request_token, details.service_account_token)
        token = await self._transport.send(
            partial(self._try_once, request_token, request, host),
            CallContext.new(
                self._source_factory.endpoint(details.token_service, request.cloud),
                mode=details.mode.value,
                caller=caller,
                stage=Stage.IDENTITY,
            ),
        )
        lifetime = max(token.expires_at - self._clock.wall().timestamp(), 0.0)
        renew_at = token.expires_at - min(_RENEW_BEFORE_SECONDS, lifetime * _RENEW_BEFORE_SHARE)
        self._renew_at = renew_at if token.renew_at is None else min(renew_at, token.renew_at)
        margin = min(_EXPIRY_MARGIN_SECONDS, lifetime * _EXPIRY_MARGIN_SHARE)
        self._use_until = token.expires_at - margin
        self._token = token
        return token.text

    async def _try_once(
        self,
        request_token: Callable[[float], Awaitable[AccessToken]],
        request: AccessTokenRequest,
        host: str,
        seconds: float,
    ) -> AccessToken | RetryableFailure:
        try:
            return await request_token(min(seconds, self._https.settings.try_timeout))
        except TOKEN_EXCEPTIONS as error:
            failure = token_failure(
                error,
                identity=request.identity,
                tenant=request.tenant,
                host=host,
                emulator=self._source_factory.emulator,
            )
            # Not chained: the caught exception may contain data of the endpoint.
            if not failure.transient:
                raise failure.error from None
            headers = failure.response.headers if failure.response else {}
            # A 4xx concerns one identity; only other failures count against the shared endpoint.
            status = failure.response.status if failure.response else None
            host_fault = status is None or status >= 500
            retry_after = self._https.retry_after(headers)
            return RetryableFailure(failure.error, retry_after, host_fault=host_fault)


def _consume_exception(task: asyncio.Task[str]) -> None:
    """Retrieve the exception of a task without waiters, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


__all__ = ["AccessTokenRequest", "TokenCache", "TokenProvider"]


class TokenCache:
    """The cached tokens of all identities. At the limit, the namespace with the most loses some.

    Args:
        https: provides the connections to the token endpoints.
        transport: limits and retries requests.
        settings: the settings of the token proxy, and the permitted tenants.
        endpoints: the token endpoints; None: those of the settings.
        max_entries: the maximum number of identities.
        clock: reads the time.
        jobs: runs parse jobs; None for threads of its own.
    """

    def __init__(
        self,
        https: HttpsClient,
        transport: RetryingTransport,
        settings: ProviderSettings | None = None,
        *,
        endpoints: TokenEndpoints | None = None,
        max_entries: int = MAX_IDENTITIES,
        clock: Clock | None = None,
        jobs: JobRunner | None = None,
    ) -> None:
        settings = settings or ProviderSettings()
        endpoints = endpoints or TokenEndpoints.from_settings(settings, None)
        self.restrictions = settings.restrictions
        self._https = https
        self._transport = transport
        self._clock = clock or SystemClock()
        self._identity_hasher = IdentityHasher(token_bytes(32))
        self._source_factory = TokenSourceFactory(https, endpoints, self._clock, jobs)
        self._cached_tokens: FairBoundedDict[Hashable, CachedToken] = FairBoundedDict(
            max_entries, is_evictable=lambda credential: credential.is_idle
        )
        self._redirects: FairBoundedDict[Hashable, TokenTarget] = FairBoundedDict(max_entries)

    def token_provider(
        self, request: AccessTokenRequest, *, host: str = "", caller: Caller = KEYFERRY
    ) -> TokenProvider:
        """Return the provider of the tokens for `request`.

        Args:
            request: the request as configured in the SecretProviderClass.
            host: the host of the vault that the tokens are for; an earlier redirect of this host is
                applied. "" for any vault.
            caller: on whose behalf tokens are requested.

        Raises:
            IdentityError: the identity is not available on this machine.
        """
        resolved = replace(request, identity=self._source_factory.resolve(request.identity))
        return TokenProvider(self, resolved, self.identity_key(resolved), host, caller)

    async def close(self) -> None:
        """Cancel all requests in flight."""
        for cached_token in self._cached_tokens.values():
            await cached_token.close()
        self._cached_tokens.clear()

    def cached_token(self, identity: IdentityKey, caller: Caller = KEYFERRY) -> CachedToken:
        """Return the cached token of an identity; it is requested on first use."""
        token = self._cached_tokens.touch(identity)
        if token is None:
            token = CachedToken(self._https, self._transport, self._source_factory, self._clock)
            self._cached_tokens.put(identity, token, tenant=caller.tenant)
        return token

    def identity_key(self, request: AccessTokenRequest) -> IdentityKey:
        """Return the cache key of the complete identity of `request`."""
        return self._identity_hasher.identity_key(
            profile(request.identity).mode.value, request.identity_parts
        )

    def token_service(self, identity: Identity, cloud: AzureCloud) -> tuple[TokenService, str]:
        """Return the service that issues the tokens of `identity`, and its host for messages.

        Raises:
            IdentityError: the identity cannot be used on this machine.
        """
        service = profile(self._source_factory.resolve(identity)).token_service
        return service, self._source_factory.endpoint_host(service, cloud)

    def redirect(self, identity: IdentityKey, host: str) -> TokenTarget | None:
        """Return the tenant and resource that the vault at `host` asked for, if it did."""
        return self._redirects.touch((identity, host))

    def remember_redirect(
        self, identity: IdentityKey, host: str, target: TokenTarget, caller: Caller = KEYFERRY
    ) -> None:
        """Remember that the vault at `host` wants tokens of `identity` for `target`."""
        self._redirects.put((identity, host), target, tenant=caller.tenant)


class TokenProvider:
    """The access tokens of one identity for the requests of one mount.

    Args:
        cache: holds the tokens.
        request: tenant, resource and identity as configured in the SecretProviderClass.
        identity: the key of `request`.
        host: the vault that the tokens are for.
        caller: on whose behalf tokens are requested.

    Attributes:
        identity: the key of the configured identity, whatever tenant the vault asks for.
    """

    def __init__(
        self,
        cache: TokenCache,
        request: AccessTokenRequest,
        identity: IdentityKey,
        host: str,
        caller: Caller = KEYFERRY,
    ) -> None:
        self._cache = cache
        self._configured_request = request
        self._host = host
        self._caller = caller
        self.identity = identity
        self._effective_request = request
        self._cached_token: CachedToken | None = None
        if redirect := cache.redirect(identity, host):
            self._effective_request = replace(
                request, tenant=redirect.tenant, resource=redirect.resource
            )

    async def get_token(self) -> str:
        """Return a token that has not expired and that the vault has not rejected.

        Raises:
            IdentityError: the token endpoint refuses.
            AccessDeniedError: the vault trusts another tenant, which refuses a token.
            ConnectionFailedError: the token endpoint cannot be reached.
        """
        configured, effective = self._configured_request, self._effective_request
        if self._cached_token is None:
            key = self.identity if effective is configured else self._cache.identity_key(effective)
            self._cached_token = self._cache.cached_token(key, self._caller)
        try:
            token = await self._cached_token.get_token(effective, self._caller)
        except IdentityError as error:
            if effective.tenant == configured.tenant:
                raise
            raise AccessDeniedError(
                f"vault {self._host} does not accept the token (401): it trusts "
                f"{effective.cloud.authority}/{effective.tenant}, but the token comes from "
                f"{configured.cloud.authority}/{configured.tenant}; in the trusted tenant: "
                f"{error.problem}",
                "Set tenantID in the SecretProviderClass to the tenant of the vault, and use an "
                f"identity of that tenant: az keyvault show --name {self._host.partition('.')[0]} "
                "--query properties.tenantId",
                denial=Denial.TOKEN,
            ) from None
        if effective is not configured and effective.identity_parts != configured.identity_parts:
            target = TokenTarget(effective.tenant, effective.resource)
            self._cache.remember_redirect(self.identity, self._host, target, self._caller)
        return token

    def invalidate(self, token: str, challenge: str = "") -> None:
        """Invalidate `token` after a 401.

        If the challenge names another tenant or resource, the next token is for these.

        Args:
            token: the rejected token.
            challenge: the header `WWW-Authenticate` of the 401.

        Raises:
            AccessDeniedError: the vault asks for a token of a resource outside of its domain.
            ClassInvalidError: the vault asks for a token of a tenant that is not permitted.
        """
        configured = self._configured_request
        # Based on the configured request: an earlier redirect may be outdated.
        target = token_target(
            parse_challenge(challenge),
            TokenTarget(configured.tenant, configured.effective_resource),
            host=self._host,
            authority=configured.cloud.authority,
        )
        self._cache.restrictions.check_tenant(
            target.tenant, subject=f"vault {self._host} asks for a token of tenant"
        )
        redirected = replace(configured, tenant=target.tenant, resource=target.resource)
        self._effective_request, previous = redirected, self._effective_request
        rejected, self._cached_token = self._cached_token, None
        if rejected is not None and redirected.identity_parts == previous.identity_parts:
            rejected.invalidate(token)
