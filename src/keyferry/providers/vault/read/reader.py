"""Reads the secrets of one mount: each distinct request once, all concurrently.

Stored secrets are shared by all mounts with the same identity. A dynamic secret (a response with a
lease) belongs to the pod that requested it. It is read with a token of that pod only, so that both
can be revoked when the pod is removed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.aio.tasks import map_concurrently
from keyferry.errors import KeyferryError, MountLimitError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.providers.vault.auth.session import context_for
from keyferry.providers.vault.http.response import memory_size
from keyferry.providers.vault.leases.lease import ReadResult, origin_of
from keyferry.providers.vault.read.client import VaultClient
from keyferry.providers.vault.read.kv_list import is_revalidatable, kv_version, parse_kv_path
from keyferry.providers.vault.read.revalidation import KvListing
from keyferry.resilience.cache_key import CacheKey
from keyferry.resilience.settings import MAX_CONCURRENT_READS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from keyferry.providers.access_recorder import VaultAccessRecorder
    from keyferry.providers.mount_limits import MountBudget
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.session_cache import OpenSession, SessionCache
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.leases.manager import LeaseManager
    from keyferry.providers.vault.objects import ReadRequest, SourceRequest
    from keyferry.resilience.call_context import CallContext, Endpoint, Purpose
    from keyferry.resilience.fetcher import Fetched, Fetcher
    from keyferry.resilience.freshness import Wanted
    from keyferry.resilience.metrics import CacheResult
    from keyferry.resilience.revalidation import BulkRevalidator

MAX_LEASED_PATHS = 10_000


class LeasedPathSet:
    """The paths whose responses are known to have leases. The oldest are evicted at the limit."""

    def __init__(self) -> None:
        self._paths: BoundedDict[tuple[Endpoint, str], None] = BoundedDict(MAX_LEASED_PATHS)

    def add(self, endpoint: Endpoint, path: str) -> None:
        """Add a path. With other connection settings, the same address may be another server."""
        self._paths[endpoint, path] = None

    def has(self, endpoint: Endpoint, path: str) -> bool:
        """Return whether the responses of a path have leases."""
        return (endpoint, path) in self._paths


class ProviderServices(Struct, frozen=True):
    """The services that all mounts of one provider share.

    Attributes:
        transport: sends requests to vaults.
        fetcher: caches and shares reads.
        sessions: the logins.
        leases: the dynamic secrets of pods.
        leased_paths: the paths whose responses have leases.
        revalidator: revalidates cached secrets with list requests; None if that is disabled.
    """

    transport: VaultTransport
    fetcher: Fetcher
    sessions: SessionCache
    leases: LeaseManager
    leased_paths: LeasedPathSet
    revalidator: BulkRevalidator | None


async def read_from_sources(
    sources: Sequence[VaultReader | KeyferryError], requests: Iterable[SourceRequest]
) -> Mapping[SourceRequest, VaultResponse | KeyferryError]:
    """Send all requests concurrently, each to its source; see `VaultReader.read_all`.

    Args:
        sources: reads the secrets of each source; the error of one that cannot be opened is the
            outcome of its requests.
        requests: the requests; repetitions are sent once.

    Raises:
        MountLimitError: the responses are too large together; the other requests are cancelled.
    """

    async def read(source: int) -> Mapping[ReadRequest, VaultResponse | KeyferryError]:
        reader, own = sources[source], by_source[source]
        if isinstance(reader, KeyferryError):
            return dict.fromkeys(own, reader)
        return await reader.read_all(own)

    by_source: dict[int, list[ReadRequest]] = {}
    for source, request in requests:
        by_source.setdefault(source, []).append(request)
    responses = await map_concurrently(read, list(by_source), limit=max(len(by_source), 1))
    return {
        (source, request): response
        for source, each in zip(by_source, responses, strict=True)
        for request, response in each.items()
    }


class VaultReader:
    """Reads the secrets of one mount.

    Args:
        services: services of the provider.
        session: session with the identity of the pod.
        volume: target path of the volume.
        purpose: first mount or refresh.
        wanted: how fresh cached content must be.
        recorder: collects what is read, for the audit log.
        budget: what the mount may receive.

    Attributes:
        recorder: collects what is read, for the audit log.
        oldest_age: the age in seconds of the oldest shared content that was read, 0 if all of it
            was requested for this mount. Content with a lease does not count.
        stale_age: the age in seconds of the oldest content that was used because the vault is
            unavailable; None without such content.
    """

    def __init__(
        self,
        services: ProviderServices,
        session: OpenSession,
        *,
        volume: str,
        purpose: Purpose,
        wanted: Wanted,
        recorder: VaultAccessRecorder,
        budget: MountBudget,
    ) -> None:
        self._services = services
        self._session = session
        self._login = session.login
        self._pod_identity = services.sessions.identity_key(session.login, per_pod=True)
        self._endpoint = session.login.server.endpoint
        self._volume = volume
        self._purpose = purpose
        self._wanted = wanted
        self.recorder = recorder
        self._budget = budget
        self._cached_keys: set[CacheKey] = set()
        self.oldest_age = 0.0
        self.stale_age: float | None = None

    async def read_all(
        self, requests: Iterable[ReadRequest]
    ) -> Mapping[ReadRequest, VaultResponse | KeyferryError]:
        """Send all requests; a failed one does not affect the others.

        Returns:
            The response or the error of each request.

        Raises:
            MountLimitError: the responses are too large together; the other requests are cancelled.
        """

        async def one(request: ReadRequest) -> VaultResponse | KeyferryError:
            now, name = self._services.fetcher.now, request.path.path
            started = now()
            try:
                response, result = await self._read(request)
                self._budget.keep(
                    response,
                    content_bytes=response.body_bytes,
                    memory_bytes=memory_size(response),
                )
            except KeyferryError as error:
                self.recorder.failed(name, error, seconds=now() - started)
                if isinstance(error, MountLimitError):
                    raise
                return error
            self.recorder.read(name, result, version=kv_version(response), seconds=now() - started)
            return response

        distinct = list(dict.fromkeys(requests))
        results = await map_concurrently(one, distinct, limit=MAX_CONCURRENT_READS)
        return dict(zip(distinct, results, strict=True))

    @property
    def host(self) -> str:
        """The host of the vault, as messages name it."""
        return self._login.server.host

    def lease_key(self, request: ReadRequest) -> CacheKey:
        """Return the key of the secret with a lease that a request may have given."""
        return self._pod_key(request)

    @property
    def cached_keys(self) -> AbstractSet[CacheKey]:
        """The cache entries that this mount read."""
        return self._cached_keys

    async def _read(self, request: ReadRequest) -> tuple[VaultResponse, CacheResult]:
        """Send one request, through the cache or for this pod only; say how it was served.

        1. The path is known to give leases, the request is not a plain read, or this pod already
           has a secret for it: read for this pod only, through the lease manager.
        2. The response has no lease: it is a stored secret, and shared through the cache.
        3. The response has a lease and was requested by this mount: track it for this pod.
        4. The response has a lease and was requested by another mount of the same identity, or has
           no known lifetime: it must not be shared, so read again as in case 1.
        """
        has_leases = self._services.leased_paths.has(self._endpoint, request.path.path)
        if has_leases or not request.cacheable or self._pod_key(request) in self._services.leases:
            return await self._read_leased(request)
        own_results: list[ReadResult] = []

        async def load(context: CallContext) -> ReadResult:
            own_results.append(await self._read_with(self._session, request, context))
            return own_results[0]

        key = self._cache_key(request, per_pod=False)
        fetched: Fetched[ReadResult] = await self._budget.fetch(
            lambda: self._services.fetcher.fetch(
                key,
                load,
                purpose=self._purpose,
                caller=self._login.caller,
                endpoint=self._endpoint,
                # A response with a lease has no size: it is not cached.
                size_of=lambda read: None if read.response.lease_id else memory_size(read.response),
                revalidate=partial(self._revalidate, request),
                volume=self._volume,
                wanted=self._wanted,
            )
        )
        result = fetched.value
        if not result.response.lease_id:
            self._cached_keys.add(key)
            self.oldest_age = max(self.oldest_age, fetched.age)
            if fetched.result == "stale":
                self.stale_age = max(self.stale_age or 0.0, fetched.age)
            return result.response, fetched.result
        self._services.leased_paths.add(self._endpoint, request.path.path)
        if own_results and self._services.leases.track(
            self._pod_key(request), request, result, self._volume
        ):
            return result.response, fetched.result
        return await self._read_leased(request)

    async def _revalidate(
        self, request: ReadRequest, cached: ReadResult, context: CallContext
    ) -> bool:
        """Return whether a list of the secret's folder shows that it has not changed."""
        revalidator, secret = self._services.revalidator, parse_kv_path(request.path)
        if revalidator is None or secret is None or not is_revalidatable(cached.response):
            return False
        client = partial(VaultClient, self._services.transport, self._session)
        key = self._cache_key(request, per_pod=False)
        listing = KvListing(client, key, secret)
        return await revalidator.revalidate(listing, context, not_before=self._wanted.not_before)

    async def _read_leased(self, request: ReadRequest) -> tuple[VaultResponse, CacheResult]:
        result: CacheResult = "hit"

        async def create() -> ReadResult:
            nonlocal result
            result = "miss"
            return await self._read_for_pod(request)

        response = await self._services.leases.get_or_create(
            self._pod_key(request), request, self._volume, create
        )
        return response, result

    async def _read_for_pod(self, request: ReadRequest) -> ReadResult:
        """Send a request for this pod only.

        1. The path is known to give leases: use a session that only this pod uses, so that the
           token can be revoked together with the lease.
        2. Otherwise use the session of the mount, and remember the path if it gives a lease.
        """
        if not self._services.leased_paths.has(self._endpoint, request.path.path):
            result = await self._read_with(self._session, request, self._new_context())
            if result.response.lease_id:
                self._services.leased_paths.add(self._endpoint, request.path.path)
            return result
        session = await self._services.sessions.open(self._login, self._purpose, per_pod=True)
        return await self._read_with(session, request, self._new_context())

    def _new_context(self) -> CallContext:
        return context_for(self._login, self._purpose)

    async def _read_with(
        self, session: OpenSession, request: ReadRequest, context: CallContext
    ) -> ReadResult:
        client = VaultClient(self._services.transport, session, context, self._budget)
        response, token = await client.read(request)
        return ReadResult(
            response, token, origin_of(session.login), session.underlying, session.shared
        )

    def _cache_key(self, request: ReadRequest, *, per_pod: bool) -> CacheKey:
        identity = self._pod_identity if per_pod else self._session.identity
        arguments = () if request.arguments is None else (request.arguments.decode(),)
        item = (request.method, request.path.path, request.path.query, *arguments)
        return CacheKey(self._login.server.host, identity, item)

    def _pod_key(self, request: ReadRequest) -> CacheKey:
        """Return the key of a request of this pod; of this volume if the pod is unknown."""
        key = self._cache_key(request, per_pod=True)
        return key if self._login.pod.uid else key._replace(resource=(*key.resource, self._volume))
