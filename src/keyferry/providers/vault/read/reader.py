"""Reads what one mount asks for: every request once, all at the same time.

What only shows what is stored is shared with all mounts of the same identity. What was made for
whoever asked (an answer with a lease) never is: who finds one that was made for another asks again,
with a token of the pod's own, so that it can be revoked with the pod.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from keyferry.errors import KeyferryError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.providers.vault.auth.session import context_for
from keyferry.providers.vault.http.response import memory_size
from keyferry.providers.vault.leases.lease import ReadResult, origin_of
from keyferry.providers.vault.read.client import VaultClient
from keyferry.providers.vault.read.kv_list import is_revalidatable, parse_kv_path
from keyferry.providers.vault.read.revalidation import KvListing
from keyferry.resilience.cache_key import CacheKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.session_cache import OpenSession, SessionCache
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.http.server import Server
    from keyferry.providers.vault.leases.manager import LeaseManager
    from keyferry.providers.vault.objects import ReadRequest
    from keyferry.resilience.call_context import CallContext, Purpose
    from keyferry.resilience.fetcher import Fetched, Fetcher
    from keyferry.resilience.revalidation import BulkRevalidator

MAX_LEASED_PATHS = 10_000


class LeasedPathSet:
    """The paths that are known to give leases; the oldest go when they are too many."""

    def __init__(self) -> None:
        self._paths: BoundedDict[tuple[str, str, str], None] = BoundedDict(MAX_LEASED_PATHS)

    def add(self, server: Server, path: str) -> None:
        """Remember one."""
        self._paths[_path_key(server, path)] = None

    def has(self, server: Server, path: str) -> bool:
        """Whether it is one."""
        return _path_key(server, path) in self._paths


def _path_key(server: Server, path: str) -> tuple[str, str, str]:
    return server.host, server.namespace, path


@dataclass(frozen=True, slots=True)
class ProviderServices:
    """What all mounts of one provider share.

    Attributes:
        transport: the way to the vaults.
        fetcher: shares calls.
        sessions: the logins.
        leases: what is held for pods.
        leased_paths: the paths that give leases.
        revalidator: prove that nothing has changed; None: nobody asks for that.
    """

    transport: VaultTransport
    fetcher: Fetcher
    sessions: SessionCache
    leases: LeaseManager
    leased_paths: LeasedPathSet
    revalidator: BulkRevalidator | None


class VaultReader:
    """Reads for one mount.

    Args:
        services: shared with all mounts.
        session: as whom.
        volume: the target path that it is for.
        purpose: why.

    Attributes:
        oldest_age: the age in seconds of the oldest shared content that was read, 0 if all of it
            was requested for this mount. Content with a lease does not count.
    """

    def __init__(
        self, services: ProviderServices, session: OpenSession, *, volume: str, purpose: Purpose
    ) -> None:
        self._services = services
        self._session = session
        self._login = session.login
        self._pod_identity = services.sessions.identity_key(session.login, per_pod=True)
        self._volume = volume
        self._purpose = purpose
        self._cached_keys: set[CacheKey] = set()
        self.oldest_age = 0.0

    async def read_all(
        self, requests: Iterable[ReadRequest]
    ) -> Mapping[ReadRequest, VaultResponse | KeyferryError]:
        """Every request with what came of it; one that fails keeps no other from being read."""

        async def one(request: ReadRequest) -> VaultResponse | KeyferryError:
            try:
                return await self._read(request)
            except KeyferryError as error:
                return error

        wanted = list(dict.fromkeys(requests))
        answers = await asyncio.gather(*map(one, wanted))
        return dict(zip(wanted, answers, strict=True))

    def retain_only(self, requests: Iterable[ReadRequest]) -> None:
        """The volume holds these; what was held for others that it had is given back."""
        self._services.leases.retain_only(self._volume, map(self._pod_key, requests))
        self._services.fetcher.retain_only(self._volume, self._cached_keys)

    async def _read(self, request: ReadRequest) -> VaultResponse:
        known = self._services.leased_paths.has(self._login.server, request.path.path)
        if known or not request.cacheable or self._pod_key(request) in self._services.leases:
            return await self._read_leased(request)
        mine: list[ReadResult] = []

        async def load(context: CallContext) -> ReadResult:
            mine.append(await self._read_with(self._session, request, context))
            return mine[0]

        key = self._cache_key(request, per_pod=False)
        fetched: Fetched[ReadResult] = await self._services.fetcher.fetch(
            key,
            load,
            purpose=self._purpose,
            size_of=lambda found: None if found.response.lease_id else memory_size(found.response),
            revalidate=partial(self._revalidate, request),
            volume=self._volume,
        )
        issued = fetched.value
        if not issued.response.lease_id:
            self._cached_keys.add(key)
            self.oldest_age = max(self.oldest_age, fetched.age)
            return issued.response
        self._services.leased_paths.add(self._login.server, request.path.path)
        if mine and self._services.leases.track(
            self._pod_key(request), request, issued, self._volume
        ):
            return issued.response
        return await self._read_leased(request)

    async def _revalidate(self, request: ReadRequest, cached: ReadResult, _: CallContext) -> bool:
        """Whether the list of its folder proves that what is held is still there."""
        proofs, secret = self._services.revalidator, parse_kv_path(request.path)
        if proofs is None or secret is None or not is_revalidatable(cached.response):
            return False
        client = partial(VaultClient, self._services.transport, self._session)
        key = self._cache_key(request, per_pod=False)
        return await proofs.revalidate(KvListing(client, key, secret))

    async def _read_leased(self, request: ReadRequest) -> VaultResponse:
        return await self._services.leases.get_or_create(
            self._pod_key(request), request, self._volume, lambda: self._read_for_pod(request)
        )

    async def _read_for_pod(self, request: ReadRequest) -> ReadResult:
        """Ask for this pod alone."""
        if not self._services.leased_paths.has(self._login.server, request.path.path):
            issued = await self._read_with(self._session, request, self._new_context())
            if issued.response.lease_id:
                self._services.leased_paths.add(self._login.server, request.path.path)
            return issued
        session = await self._services.sessions.open(self._login, self._purpose, per_pod=True)
        return await self._read_with(session, request, self._new_context())

    def _new_context(self) -> CallContext:
        return context_for(self._login, self._purpose)

    async def _read_with(
        self, session: OpenSession, request: ReadRequest, context: CallContext
    ) -> ReadResult:
        client = VaultClient(self._services.transport, session, context)
        answer, grant = await client.read(request)
        return ReadResult(
            answer, grant, origin_of(session.login), session.underlying, session.shared
        )

    def _cache_key(self, request: ReadRequest, *, per_pod: bool) -> CacheKey:
        identity = self._pod_identity if per_pod else self._session.identity
        arguments = () if request.arguments is None else (request.arguments.decode(),)
        item = (request.method, request.path.path, request.path.query, *arguments)
        return CacheKey(self._login.server.host, identity, item)

    def _pod_key(self, request: ReadRequest) -> CacheKey:
        """The question as this pod asks it; where it has no name, as this volume does."""
        key = self._cache_key(request, per_pod=True)
        return key if self._login.pod.uid else key._replace(resource=(*key.resource, self._volume))
