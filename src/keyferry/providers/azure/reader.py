"""Reads one Key Vault for one mount, through the cache that all mounts share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, assert_never

from keyferry.aio.tasks import map_concurrently
from keyferry.errors import KeyferryError, MountLimitError
from keyferry.providers.azure.keyvault import LISTED_VERSION_BYTES
from keyferry.providers.azure.responses import Content, KeyVaultSecret, LeafCertificate, PublicKey
from keyferry.providers.azure.revalidation import READ_VERB, CollectionListing
from keyferry.providers.azure.revalidation_rules import TimestampedContent
from keyferry.providers.azure.versions import choose_versions
from keyferry.records import replace
from keyferry.resilience.cache_key import CacheKey
from keyferry.resilience.settings import MAX_CONCURRENT_READS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from keyferry.aio.clock import Clock
    from keyferry.providers.access_recorder import VaultAccessRecorder
    from keyferry.providers.api import MountCall
    from keyferry.providers.azure.keyvault import KeyVault
    from keyferry.providers.azure.objects import ObjectRef, ObjectType
    from keyferry.providers.azure.responses import ListedObject, ListedVersion
    from keyferry.providers.azure.versions import FetchOutcome, ObjectRequest
    from keyferry.providers.mount_limits import MountBudget
    from keyferry.resilience.cache_key import IdentityKey
    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.fetcher import Fetched, Fetcher
    from keyferry.resilience.revalidation import BulkRevalidator

T = TypeVar("T")

_OVERHEAD_BYTES = 1024
"""Roughly the memory of a cache entry in addition to its content."""


class CachedKeyVault:
    """Reads objects from the cache, or else from a vault, for one mount.

    Its methods raise the errors of `KeyVault`.

    Args:
        vault: sends the requests.
        fetcher: caches responses, shares requests in flight and limits them.
        identity: the identity of `vault`.
        call: the mount, with its volume and purpose.
        revalidator: finds unchanged content with list requests; None: revalidation is disabled.
        clock: reads the time.
        recorder: collects what is read, for the audit log.
        budget: what the mount may receive.

    Attributes:
        oldest_age: the age in seconds of the oldest content that was read; 0 if nothing came from
            the cache.
        stale_age: the age in seconds of the oldest content that was used because the vault is
            unavailable; None without such content.
    """

    def __init__(
        self,
        vault: KeyVault,
        fetcher: Fetcher,
        *,
        identity: IdentityKey,
        call: MountCall,
        revalidator: BulkRevalidator | None,
        clock: Clock,
        recorder: VaultAccessRecorder,
        budget: MountBudget,
    ) -> None:
        self._vault = vault
        self._fetcher = fetcher
        self._identity = identity
        self._purpose = call.purpose
        self._caller = call.caller
        self._volume = call.target_path
        self._wanted = call.wanted
        self._revalidator = revalidator
        self._clock = clock
        self._recorder = recorder
        self._budget = budget
        self._used_keys: set[CacheKey] = set()
        self._last_updates: dict[ObjectType, Mapping[str, int]] = {}
        self.oldest_age = 0.0
        self.stale_age: float | None = None

    @property
    def host(self) -> str:
        """The host of the vault, with a port if it is not 443."""
        return self._vault.netloc

    async def read(self, ref: ObjectRef) -> Content:
        """Read one object."""
        key = self._cache_key(READ_VERB, ref, ref.version)
        self._used_keys.add(key)
        # A list contains only current versions, so a fixed version cannot be revalidated by it.
        revalidates = self._revalidator is not None and not ref.version
        known = self._last_updates.get(ref.type)
        listing = CollectionListing(self._vault, key, ref.type, known)
        started = self.now()
        try:
            fetched: Fetched[TimestampedContent] = await self._budget.fetch(
                lambda: self._fetcher.fetch(
                    key,
                    partial(self._read, ref),
                    purpose=self._purpose,
                    caller=self._caller,
                    size_of=lambda cached: memory_size(cached.content),
                    revalidate=partial(self._has_not_changed, listing) if revalidates else None,
                    volume=self._volume,
                    wanted=self._wanted,
                )
            )
        except KeyferryError as error:
            self.record_failure(ref, error, since=started)
            raise
        content = self._use(fetched).content
        self._budget.keep(
            content, content_bytes=content_size(content), memory_bytes=memory_size(content)
        )
        self._recorder.read(
            ref.id,
            fetched.result,
            version=content.version,
            seconds=self.now() - started,
        )
        return content

    async def list_objects(self, type_: ObjectType) -> tuple[ListedObject, ...]:
        """List all objects of one type, without their values.

        A list that was requested for this mount also shows which cached objects are unchanged.
        """
        key = CacheKey(self._vault.netloc, self._identity, ("list objects", type_.value))
        self._used_keys.add(key)
        fetched = await self._budget.fetch(
            lambda: self._fetcher.fetch(
                key,
                partial(self._vault.list_objects, type_),
                purpose=self._purpose,
                caller=self._caller,
                size_of=_list_size,
                volume=self._volume,
                wanted=self._wanted,
            )
        )
        listed = self._use(fetched)
        self._budget.keep(listed, content_bytes=0, memory_bytes=_list_size(listed))
        if fetched.result == "miss" and fetched.age == 0:
            self._last_updates[type_] = {
                each.name.lower(): each.properties.updated_at
                for each in listed
                if each.enabled and each.properties.updated_at is not None
            }
        return listed

    def wall_time(self) -> float:
        """Return the seconds since 1970."""
        return self._clock.wall().timestamp()

    async def list_versions(self, ref: ObjectRef) -> tuple[ListedVersion, ...]:
        """List all versions of an object in the order of the vault; `ref.version` is ignored."""
        key = self._cache_key("list versions", ref)
        self._used_keys.add(key)
        fetched = await self._budget.fetch(
            lambda: self._fetcher.fetch(
                key,
                partial(self._vault.list_versions, ref),
                purpose=self._purpose,
                caller=self._caller,
                size_of=lambda listed: LISTED_VERSION_BYTES * (1 + len(listed)),
                volume=self._volume,
                wanted=self._wanted,
            )
        )
        listed = self._use(fetched)
        self._budget.keep(
            listed, content_bytes=0, memory_bytes=LISTED_VERSION_BYTES * (1 + len(listed))
        )
        return listed

    def record_failure(self, ref: ObjectRef, error: KeyferryError, *, since: float) -> None:
        """Record that an object could not be read; `since` is a time of `now`."""
        self._recorder.failed(ref.id, error, seconds=self.now() - since)

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""
        return self._clock.monotonic()

    @property
    def used_keys(self) -> AbstractSet[CacheKey]:
        """The cache entries that this mount read."""
        return self._used_keys

    def _use(self, fetched: Fetched[T]) -> T:
        self.oldest_age = max(self.oldest_age, fetched.age)
        if fetched.result == "stale":
            self.stale_age = max(self.stale_age or 0.0, fetched.age)
        return fetched.value

    async def _read(self, ref: ObjectRef, context: CallContext) -> TimestampedContent:
        requested_at = self._clock.wall().timestamp()
        content = await self._vault.read(ref, context)
        return TimestampedContent(content, requested_at)

    async def _has_not_changed(
        self, listing: CollectionListing, _: TimestampedContent, context: CallContext
    ) -> bool:
        assert self._revalidator is not None
        return await self._revalidator.revalidate(
            listing, context, not_before=self._wanted.not_before
        )

    def _cache_key(self, verb: str, ref: ObjectRef, *extra: str) -> CacheKey:
        resource = (verb, ref.type.value, ref.name, *extra)
        return CacheKey(self._vault.netloc, self._identity, resource)


def _list_size(listed: Sequence[ListedObject]) -> int:
    return LISTED_VERSION_BYTES * (1 + len(listed))


def content_size(content: Content) -> int:
    """Return the size of `content` in the vault, in characters or bytes."""
    match content:
        case KeyVaultSecret():
            return len(content.value)
        case PublicKey():
            return sum(map(len, content.numbers.values()))
        case LeafCertificate():
            return len(content.cer)
        case _:
            assert_never(content)


def memory_size(content: Content) -> int:
    """Estimate how many bytes of memory `content` takes."""
    match content:
        case KeyVaultSecret():
            return _OVERHEAD_BYTES + content.value.__sizeof__()
        case PublicKey():
            return _OVERHEAD_BYTES + sum(map(len, content.numbers.values()))
        case LeafCertificate():
            return _OVERHEAD_BYTES + len(content.cer)
        case _:
            assert_never(content)


# --- Fetching the objects of a mount: each object and version once, concurrently ------------------


class ObjectReader(Protocol):
    """Reads objects of one vault (`CachedKeyVault`)."""

    async def read(self, ref: ObjectRef) -> Content:
        """Read one object."""

    async def list_versions(self, ref: ObjectRef) -> tuple[ListedVersion, ...]:
        """List the versions of one object."""

    def record_failure(self, ref: ObjectRef, error: KeyferryError, *, since: float) -> None:
        """Record that an object has no version to read; `since` is a time of `now`."""

    def now(self) -> float:
        """Return the seconds of a monotonic clock."""


async def fetch_all(
    vault: ObjectReader, requests: Iterable[ObjectRequest]
) -> Mapping[ObjectRequest, FetchOutcome]:
    """Fetch all requests concurrently and return the outcome of each; a failure stops no other.

    Args:
        vault: reads the objects.
        requests: the requests; repetitions are fetched once.

    Raises:
        MountLimitError: the objects are too large together; the other requests are cancelled.
    """

    async def fetch(request: ObjectRequest) -> tuple[ObjectRequest, FetchOutcome]:
        if request.history == 1:
            content = await read(request.ref)
            return request, content if isinstance(content, KeyferryError) else (content,)
        started = vault.now()
        try:
            listed = await vault.list_versions(request.ref)
            chosen = choose_versions(listed, start=request.ref.version, count=request.history)
        except MountLimitError:
            raise
        except KeyferryError as error:
            vault.record_failure(request.ref, error, since=started)
            return request, error
        refs = [replace(request.ref, version=version.version) for version in chosen]
        return request, _contents_or_error(
            await map_concurrently(read, refs, limit=MAX_CONCURRENT_READS)
        )

    async def read(ref: ObjectRef) -> Content | KeyferryError:
        try:
            return await vault.read(ref)
        except MountLimitError:
            raise
        except KeyferryError as error:
            return error

    distinct = list(dict.fromkeys(requests))
    return dict(await map_concurrently(fetch, distinct, limit=MAX_CONCURRENT_READS))


async def fetch_from_sources(
    sources: Sequence[ObjectReader | KeyferryError], requests: Iterable[ObjectRequest]
) -> Mapping[ObjectRequest, FetchOutcome]:
    """Fetch all requests concurrently, each from its source; see `fetch_all`.

    Args:
        sources: reads the objects of each source; the error of one that cannot be opened is the
            outcome of its requests.
        requests: the requests; repetitions are fetched once.

    Raises:
        MountLimitError: the objects are too large together; the other requests are cancelled.
    """

    async def fetch(source: int) -> Mapping[ObjectRequest, FetchOutcome]:
        reader, own = sources[source], by_source[source]
        if isinstance(reader, KeyferryError):
            return dict.fromkeys(own, reader)
        return await fetch_all(reader, own)

    by_source: dict[int, list[ObjectRequest]] = {}
    for request in requests:
        by_source.setdefault(request.source, []).append(request)
    fetched = await map_concurrently(fetch, list(by_source), limit=max(len(by_source), 1))
    return {request: outcome for each in fetched for request, outcome in each.items()}


def _contents_or_error(results: Iterable[Content | KeyferryError]) -> FetchOutcome:
    """Return the contents, or the first error."""
    contents: list[Content] = []
    for result in results:
        if isinstance(result, KeyferryError):
            return result
        contents.append(result)
    return tuple(contents)
