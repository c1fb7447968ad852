"""Access tokens for vaults, by whole identity, and what vaults say about them.

One cache of tokens belongs to one whole identity: cloud, resource, tenant, mode, client and what it
proves itself by. So no two mounts that could get different answers share a token. What is kept of
that identity as a key is a digest under a random key of this process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace
from secrets import token_bytes
from typing import TYPE_CHECKING, Generic, TypeVar

from keyferry.errors import AccessDeniedError, IdentityError
from keyferry.providers.azure.auth.challenge import TokenTarget, parse_challenge, token_target
from keyferry.providers.azure.auth.credential import CachedToken
from keyferry.providers.azure.auth.token_sources import (
    AccessTokenRequest,
    TokenEndpoints,
    TokenSourceFactory,
)
from keyferry.providers.settings import ProviderSettings
from keyferry.resilience.cache_key import IdentityHasher

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from keyferry.net.http_client import HttpsClient
    from keyferry.resilience.cache_key import IdentityKey
    from keyferry.resilience.fetcher import Fetcher

__all__ = ["AccessTokenRequest", "TokenCache", "TokenProvider"]

V = TypeVar("V")


class _LruDict(OrderedDict["Hashable", V], Generic[V]):
    """A mapping whose longest unused entries come first."""

    def lookup(self, key: Hashable) -> V | None:
        """The value of `key`, which is then the last used."""
        if key in self:
            self.move_to_end(key)
        return self.get(key)


class TokenCache:
    """The credentials in use, by whole identity; the longest unused go when they are too many.

    Args:
        https: the connections to the token endpoints.
        fetcher: spares the token endpoints.
        settings: the token proxy.
        endpoints: where tokens come from; None: where the settings say.
        max_entries: so many are kept.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        https: HttpsClient,
        fetcher: Fetcher,
        settings: ProviderSettings | None = None,
        *,
        endpoints: TokenEndpoints | None = None,
        max_entries: int = 512,
        clock: Callable[[], float] = time.time,
    ) -> None:
        endpoints = endpoints or TokenEndpoints.from_settings(
            settings or ProviderSettings(), https.settings.dev
        )
        self._https = https
        self._fetcher = fetcher
        self._max_entries = max_entries
        self._clock = clock
        self._identity_hasher = IdentityHasher(token_bytes(32))
        self._source_factory = TokenSourceFactory(https, endpoints, clock)
        self._cached_tokens: _LruDict[CachedToken] = _LruDict()
        self._redirects: _LruDict[TokenTarget] = _LruDict()

    def token_provider(self, request: AccessTokenRequest, *, host: str = "") -> TokenProvider:
        """The tokens for `request`.

        Args:
            request: who, of whom, for what, as the class says it.
            host: of the vault that they are for; what it asked for before counts. "" for any.

        Raises:
            IdentityError: this machine cannot have such an identity.
        """
        located = replace(request, identity=self._source_factory.resolve(request.identity))
        return TokenProvider(self, located, host)

    async def close(self) -> None:
        """Give up every request for a token that is under way."""
        for credential in self._cached_tokens.values():
            await credential.close()
        self._cached_tokens.clear()

    def cached_token(self, request: AccessTokenRequest) -> CachedToken:
        """The credential for exactly this login."""
        key = self.identity_key(request)
        credential = self._cached_tokens.lookup(key)
        if credential is None:
            credential = CachedToken(self._https, self._fetcher, self._source_factory, self._clock)
            self._cached_tokens[key] = credential
            self._evict_idle()
        return credential

    def identity_key(self, request: AccessTokenRequest) -> IdentityKey:
        """As whom `request` asks a vault."""
        return self._identity_hasher.identity_key(
            type(request.identity).__name__, request.identity_parts
        )

    def redirected_request(self, request: AccessTokenRequest, host: str) -> AccessTokenRequest:
        """What the vault at `host` wanted in the place of `request`, if it ever did."""
        found = self._redirects.lookup((self.identity_key(request), host))
        return replace(request, tenant=found.tenant, resource=found.resource) if found else request

    def remember_redirect(
        self, request: AccessTokenRequest, host: str, target: TokenTarget
    ) -> None:
        """Remember that the vault at `host` wants tokens for `target` instead of `request`'s."""
        self._redirects[self.identity_key(request), host] = target
        while len(self._redirects) > self._max_entries:
            self._redirects.popitem(last=False)

    def _evict_idle(self) -> None:
        idle = [key for key, credential in self._cached_tokens.items() if credential.is_idle]
        for key in idle[: max(0, len(self._cached_tokens) - self._max_entries)]:
            del self._cached_tokens[key]


class TokenProvider:
    """The tokens of one identity, as one mount asks for them (`keyvault`)."""

    def __init__(self, cache: TokenCache, request: AccessTokenRequest, host: str) -> None:
        self._cache = cache
        self._configured_request = request
        self._host = host
        self._effective_request = cache.redirected_request(request, host)
        self._cached_token: CachedToken | None = None

    @property
    def identity(self) -> IdentityKey:
        """Whose tokens they are, as the class says it; a vault that wants others says so itself."""
        return self._cache.identity_key(self._configured_request)

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
            self._cached_token = self._cache.cached_token(login)
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
            self._cache.remember_redirect(stated, self._host, wanted)
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
        self._cached_token = None
        if better.identity_parts == former.identity_parts:
            self._cache.cached_token(former).invalidate(token)
