"""Access tokens for vaults, through azure-identity over our own connections.

One credential, with its cache of tokens, belongs to one whole identity: cloud, tenant, mode, client
and what it proves itself by. So no two mounts that could get different answers share a token.
azure-identity is imported when the first token is asked for, on a thread, because it is large.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from keyferry.azure.modes import (
    Identity,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
    credential_fingerprint,
)
from keyferry.azure.token_errors import IMDS_HOST, TokenAnswer, causes, no_token
from keyferry.errors import KeyferryError
from keyferry.https import HttpsClient, TryFailed

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.transport import AioHttpTransport

    from keyferry.azure.clouds import Cloud

IMDS_CONNECT_SECONDS = 2.0
"""IMDS is on the same machine; where nothing answers by then, there is none."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who wants a token, of whom, for what.

    Attributes:
        identity: who.
        tenant: the tenant to get it from.
        cloud: the cloud whose token endpoint gives it, for its vaults.
    """

    identity: Identity
    tenant: str
    cloud: Cloud

    @property
    def key(self) -> tuple[str, ...]:
        """The whole identity: equal only where one token serves both."""
        place = (self.cloud.authority, self.cloud.vault_resource, self.tenant)
        return (*place, *credential_fingerprint(self.identity))


class Credentials:
    """The credentials in use, by whole identity; the longest unused go when they are too many.

    Args:
        https: the connections to the token endpoints.
        limit: so many are kept.
    """

    def __init__(self, https: HttpsClient, *, limit: int = 512) -> None:
        self._https = https
        self._limit = limit
        self._credentials: OrderedDict[tuple[str, ...], _Credential] = OrderedDict()

    def tokens(self, login: Login) -> Tokens:
        """The tokens for `login`."""
        credential = self._credentials.get(login.key)
        if credential is None:
            credential = _Credential(self._https)
            self._credentials[login.key] = credential
            self._drop_surplus()
        self._credentials.move_to_end(login.key)
        return Tokens(credential, login)

    async def close(self) -> None:
        """Give up every request for a token that is under way."""
        for credential in self._credentials.values():
            await credential.close()
        self._credentials.clear()

    def _drop_surplus(self) -> None:
        idle = [key for key, credential in self._credentials.items() if credential.idle]
        for key in idle[: max(0, len(self._credentials) - self._limit)]:
            del self._credentials[key]


class Tokens:
    """The tokens of one identity, as one mount asks for them (`keyferry.azure.keyvault`)."""

    def __init__(self, credential: _Credential, login: Login) -> None:
        self._credential = credential
        self._login = login

    async def token(self) -> str:
        """A token that should be good.

        Raises:
            IdentityError: the token endpoint refuses.
            ConnectionFailedError: the token endpoint cannot be reached.
        """
        return await self._credential.token(self._login)

    def refused(self, token: str) -> None:
        """Hear that the vault did not accept `token`, so that the next one is new."""
        self._credential.forget(token)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A request for a token that any number of mounts wait for.

    Attributes:
        identity: whose proof it uses; another mount's may be newer.
        task: the request.
    """

    identity: Identity
    task: asyncio.Task[str]


class _Credential:
    """One credential of azure-identity, made when it is first needed."""

    def __init__(self, https: HttpsClient) -> None:
        self._https = https
        self._credential: AsyncTokenCredential | None = None
        self._flight: _Flight | None = None
        self._assertion = ""
        self._last_token = ""

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a token of it."""
        return self._flight is None or self._flight.task.done()

    async def token(self, login: Login) -> str:
        """Join the request that is under way, or make one."""
        flight = self._flight
        if flight is None or flight.task.done():
            flight = self._start(login)
        try:
            return await asyncio.shield(flight.task)
        except KeyferryError:
            if flight.identity == login.identity:
                raise
        # It failed with the proof of another pod; ours may be newer.
        return await asyncio.shield(self._start(login).task)

    def forget(self, token: str) -> None:
        """Drop the cached tokens, unless somebody has got a newer one meanwhile."""
        if token == self._last_token:
            self._credential = None
            self._last_token = ""

    async def close(self) -> None:
        """Cancel the request that is under way."""
        if self._flight is not None:
            self._flight.task.cancel()
            await asyncio.wait([self._flight.task])

    def _start(self, login: Login) -> _Flight:
        task = asyncio.create_task(self._request(login))
        task.add_done_callback(_heed)
        self._flight = _Flight(login.identity, task)
        return self._flight

    async def _request(self, login: Login) -> str:
        if self._credential is None:
            await asyncio.to_thread(_load_library)
            self._credential = self._new_credential(login)
        credential = self._credential
        if isinstance(login.identity, WorkloadIdentity):
            self._assertion = login.identity.token.text

        async def attempt(seconds: float) -> str | TryFailed:
            return await self._try(credential, login, seconds)

        self._last_token = await self._https.retrying(attempt)
        return self._last_token

    async def _try(
        self, credential: AsyncTokenCredential, login: Login, seconds: float
    ) -> str | TryFailed:
        try:
            async with asyncio.timeout(seconds):
                token = await credential.get_token(f"{login.cloud.vault_resource}/.default")
        except Exception as error:  # noqa: BLE001 - strange answers make the library raise anything
            failure = no_token(
                error,
                _answer(error),
                identity=login.identity,
                tenant=login.tenant,
                host=_endpoint_host(login),
            )
            # Neither is chained: the library's texts quote the answers of the endpoint.
            if not failure.transient:
                raise failure.error from None
            answer = failure.answer
            return TryFailed(
                failure.error, self._https.retry_after(answer.headers if answer else {})
            )
        return token.token

    def _new_credential(self, login: Login) -> AsyncTokenCredential:
        """The credential of azure-identity; its own retries are off, because ours are around it."""
        from azure.identity import aio

        transport = self._transport(on_machine=isinstance(login.identity, VmManagedIdentity))
        authority = login.cloud.authority
        match login.identity:
            case ServicePrincipal(client_id, client_secret):
                return aio.ClientSecretCredential(
                    login.tenant,
                    client_id,
                    client_secret,
                    authority=authority,
                    transport=transport,
                    retry_total=0,
                )
            case VmManagedIdentity(client_id):
                return aio.ManagedIdentityCredential(
                    client_id=client_id or None,
                    transport=transport,
                    retry_total=0,
                    # Our own pod's workload identity is not the identity of the class.
                    _exclude_workload_identity_credential=True,
                )
            case WorkloadIdentity(client_id):
                return aio.ClientAssertionCredential(
                    login.tenant,
                    client_id,
                    lambda: self._assertion,
                    authority=authority,
                    transport=transport,
                    retry_total=0,
                )
            case _:
                assert_never(login.identity)

    def _transport(self, *, on_machine: bool) -> AioHttpTransport:
        """Our connections for azure-identity.

        Args:
            on_machine: whether they lead to IMDS, which is near and never behind a proxy.
        """
        from azure.core.pipeline.transport import AioHttpTransport

        settings = self._https.settings
        return AioHttpTransport(
            session=self._https.session(proxied=not on_machine),
            session_owner=False,
            connection_timeout=IMDS_CONNECT_SECONDS if on_machine else settings.connect_timeout,
            read_timeout=settings.try_timeout,
        )


def _load_library() -> None:
    """Import azure-identity and silence it: its log records quote the answers of endpoints."""
    import azure.core.pipeline.transport
    import azure.identity.aio  # noqa: F401 - for its side effect of being loaded

    logging.getLogger("azure").setLevel(logging.CRITICAL)
    logging.getLogger("msal").setLevel(logging.CRITICAL)


def _endpoint_host(login: Login) -> str:
    if isinstance(login.identity, VmManagedIdentity):
        return IMDS_HOST
    return urlsplit(login.cloud.authority).hostname or login.cloud.authority


def _answer(error: Exception) -> TokenAnswer | None:
    """The answer of the token endpoint, where one lies along the chain of causes."""
    from azure.core.exceptions import HttpResponseError
    from azure.core.rest import AsyncHttpResponse

    for cause in causes(error):
        response = cause.response if isinstance(cause, HttpResponseError) else None
        if isinstance(response, AsyncHttpResponse):
            return TokenAnswer(response.status_code, response.headers, response.content)
    return None


def _heed(task: asyncio.Task[str]) -> None:
    """Take note of a failure that nobody waits for any more, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()
