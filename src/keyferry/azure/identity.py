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

from keyferry.azure.challenge import Wanted, parse_challenge, wanted_token
from keyferry.azure.credential import Credential
from keyferry.azure.token_sources import Login, TokenPlaces, TokenSources
from keyferry.economy.key import Identities
from keyferry.errors import AccessDeniedError, IdentityError
from keyferry.provider_settings import ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from keyferry.economy.hub import Economy
    from keyferry.economy.key import WholeIdentity
    from keyferry.https import HttpsClient

__all__ = ["Credentials", "Login", "Tokens"]

V = TypeVar("V")


class _Recent(OrderedDict["Hashable", V], Generic[V]):
    """A mapping whose longest unused entries come first."""

    def use(self, key: Hashable) -> V | None:
        """The value of `key`, which is then the last used."""
        if key in self:
            self.move_to_end(key)
        return self.get(key)


class Credentials:
    """The credentials in use, by whole identity; the longest unused go when they are too many.

    Args:
        https: the connections to the token endpoints.
        economy: spares the token endpoints.
        settings: the token proxy.
        places: where tokens come from; None: where the settings say.
        limit: so many are kept.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        https: HttpsClient,
        economy: Economy,
        settings: ProviderSettings | None = None,
        *,
        places: TokenPlaces | None = None,
        limit: int = 512,
        clock: Callable[[], float] = time.time,
    ) -> None:
        places = places or TokenPlaces.of(settings or ProviderSettings(), https.settings.dev)
        self._https = https
        self._economy = economy
        self._limit = limit
        self._clock = clock
        self._identities = Identities(token_bytes(32))
        self._sources = TokenSources(https, places, clock)
        self._credentials: _Recent[Credential] = _Recent()
        self._followed: _Recent[Wanted] = _Recent()

    def tokens(self, login: Login, *, host: str = "") -> Tokens:
        """The tokens for `login`.

        Args:
            login: who, of whom, for what, as the class says it.
            host: of the vault that they are for; what it asked for before counts. "" for any.

        Raises:
            IdentityError: this machine cannot have such an identity.
        """
        located = replace(login, identity=self._sources.located(login.identity))
        return Tokens(self, located, host)

    async def close(self) -> None:
        """Give up every request for a token that is under way."""
        for credential in self._credentials.values():
            await credential.close()
        self._credentials.clear()

    def credential(self, login: Login) -> Credential:
        """The credential for exactly this login."""
        key = self.whole_identity(login)
        credential = self._credentials.use(key)
        if credential is None:
            credential = Credential(self._https, self._economy, self._sources, self._clock)
            self._credentials[key] = credential
            self._drop_surplus()
        return credential

    def whole_identity(self, login: Login) -> WholeIdentity:
        """As whom `login` asks a vault."""
        return self._identities.of(type(login.identity).__name__, login.key)

    def followed(self, login: Login, host: str) -> Login:
        """What the vault at `host` wanted in the place of `login`, if it ever did."""
        found = self._followed.use((self.whole_identity(login), host))
        return replace(login, tenant=found.tenant, resource=found.resource) if found else login

    def remember(self, login: Login, host: str, wanted: Wanted) -> None:
        """Keep that `wanted` is what the vault at `host` wants in the place of that of `login`."""
        self._followed[self.whole_identity(login), host] = wanted
        while len(self._followed) > self._limit:
            self._followed.popitem(last=False)

    def _drop_surplus(self) -> None:
        idle = [key for key, credential in self._credentials.items() if credential.idle]
        for key in idle[: max(0, len(self._credentials) - self._limit)]:
            del self._credentials[key]


class Tokens:
    """The tokens of one identity, as one mount asks for them (`keyferry.azure.keyvault`)."""

    def __init__(self, credentials: Credentials, login: Login, host: str) -> None:
        self._credentials = credentials
        self._stated = login
        self._host = host
        self._login = credentials.followed(login, host)
        self._credential: Credential | None = None

    @property
    def identity(self) -> WholeIdentity:
        """Whose tokens they are, as the class says it; a vault that wants others says so itself."""
        return self._credentials.whole_identity(self._stated)

    async def token(self) -> str:
        """A token that should be good.

        Raises:
            IdentityError: the token endpoint refuses.
            AccessDeniedError: it refuses one of the tenant that the vault wants, which is not that
                of the class.
            ConnectionFailedError: the token endpoint cannot be reached.
        """
        stated, login = self._stated, self._login
        if self._credential is None:
            self._credential = self._credentials.credential(login)
        try:
            token = await self._credential.token(login)
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
        if login is not stated and login.key != stated.key:
            wanted = Wanted(login.tenant, login.resource)
            self._credentials.remember(stated, self._host, wanted)
        return token

    def refused(self, token: str, challenge: str = "") -> None:
        """Hear that the vault did not accept `token`, so that the next one is better.

        Args:
            token: the refused one.
            challenge: the header `WWW-Authenticate` that came with the refusal.

        Raises:
            AccessDeniedError: the vault wants a token that is meant for somebody else.
        """
        stated = self._stated
        wanted = wanted_token(
            parse_challenge(challenge),
            Wanted(stated.tenant, stated.audience),
            host=self._host,
            authority=stated.cloud.authority,
        )
        better = replace(stated, tenant=wanted.tenant, resource=wanted.resource)
        # A vault may have moved to another tenant, so what it wanted before does not bind us.
        self._login, former = better, self._login
        self._credential = None
        if better.key == former.key:
            self._credentials.credential(former).forget(token)
