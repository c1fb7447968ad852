"""One Key Vault as one mount reads it: through the economy, which all mounts share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar, assert_never

from keyferry.errors import KeyferryError
from keyferry.providers.azure.responses import Content, KeyVaultSecret, LeafCertificate, PublicKey
from keyferry.providers.azure.revalidation import READ_VERB, CollectionListing
from keyferry.providers.azure.revalidation_rules import TimestampedContent
from keyferry.providers.azure.versions import choose_versions
from keyferry.resilience.cache_key import CacheKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.aio.clock import Clock
    from keyferry.providers.api import MountCall
    from keyferry.providers.azure.keyvault import KeyVault
    from keyferry.providers.azure.objects import ObjectRef
    from keyferry.providers.azure.responses import ListedVersion
    from keyferry.providers.azure.versions import FetchOutcome, ObjectRequest
    from keyferry.resilience.cache_key import IdentityKey
    from keyferry.resilience.call_context import CallContext
    from keyferry.resilience.fetcher import Fetched, Fetcher
    from keyferry.resilience.revalidation import BulkRevalidator

T = TypeVar("T")

_OVERHEAD_BYTES = 1024
"""What Python takes for an answer beside the content itself, roughly."""


class CachedKeyVault:
    """Reads what nobody of the same identity holds or is already asking for.

    Every method raises as `keyferry.providers.azure.keyvault` does.

    Args:
        vault: asks.
        fetcher: shares.
        identity: as whom `vault` asks.
        call: for which mount, and why.
        revalidator: prove that nothing has changed; None: nobody asks for that.
        clock: reads the time.

    Attributes:
        oldest_age: the age in seconds of the oldest content that was read, 0 if nothing came from
            the cache.
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
    ) -> None:
        self._vault = vault
        self._fetcher = fetcher
        self._identity = identity
        self._purpose = call.purpose
        self._volume = call.target_path
        self._revalidator = revalidator
        self._clock = clock
        self._used_keys: set[CacheKey] = set()
        self.oldest_age = 0.0

    async def read(self, ref: ObjectRef) -> Content:
        """Read one object."""
        key = self._cache_key(READ_VERB, ref, ref.version)
        self._used_keys.add(key)
        # A list tells of current versions only.
        proof = None if self._revalidator is None or ref.version else self._has_not_changed
        fetched: Fetched[TimestampedContent] = await self._fetcher.fetch(
            key,
            partial(self._read, ref),
            purpose=self._purpose,
            size_of=lambda held: memory_size(held.content),
            revalidate=proof and partial(proof, CollectionListing(self._vault, key, ref.type)),
            volume=self._volume,
        )
        return self._use(fetched).content

    async def list_versions(self, ref: ObjectRef) -> tuple[ListedVersion, ...]:
        """All versions of an object, whatever `ref.version` says, in the order of the vault."""
        key = self._cache_key("list versions", ref)
        self._used_keys.add(key)
        fetched = await self._fetcher.fetch(
            key,
            partial(self._vault.list_versions, ref),
            purpose=self._purpose,
            size_of=lambda listed: _OVERHEAD_BYTES * (1 + len(listed)),
            volume=self._volume,
        )
        return self._use(fetched)

    def retain_only_used(self) -> None:
        """The volume holds what was read; what it held besides, it uses no more."""
        self._fetcher.retain_only(self._volume, self._used_keys)

    def _use(self, fetched: Fetched[T]) -> T:
        self.oldest_age = max(self.oldest_age, fetched.age)
        return fetched.value

    async def _read(self, ref: ObjectRef, context: CallContext) -> TimestampedContent:
        asked = self._clock.wall().timestamp()
        return TimestampedContent(await self._vault.read(ref, context), asked)

    async def _has_not_changed(
        self, listing: CollectionListing, _: TimestampedContent, __: CallContext
    ) -> bool:
        assert self._revalidator is not None
        return await self._revalidator.revalidate(listing)

    def _cache_key(self, verb: str, ref: ObjectRef, *extra: str) -> CacheKey:
        item = (verb, ref.type.value, ref.name, *extra)
        return CacheKey(self._vault.netloc, self._identity, item)


def memory_size(content: Content) -> int:
    """About how many bytes of memory a content takes."""
    match content:
        case KeyVaultSecret():
            # A text with a character beyond Latin takes up to four bytes for each.
            return _OVERHEAD_BYTES + 4 * len(content.value)
        case PublicKey():
            return _OVERHEAD_BYTES + sum(map(len, content.numbers.values()))
        case LeafCertificate():
            return _OVERHEAD_BYTES + len(content.cer)
        case _:
            assert_never(content)


# --- Fetches what a mount asks for: every object and version once, all at the same time -----------


class ObjectReader(Protocol):
    """Reads one vault (`keyferry.providers.azure.reader`)."""

    async def read(self, ref: ObjectRef) -> Content:
        """Read one object."""

    async def list_versions(self, ref: ObjectRef) -> tuple[ListedVersion, ...]:
        """List the versions of one object."""


async def fetch_all(
    vault: ObjectReader, requests: Iterable[ObjectRequest]
) -> Mapping[ObjectRequest, FetchOutcome]:
    """Every ask with what came of it; one that fails keeps no other from being fetched.

    Args:
        vault: where to read.
        requests: may repeat.
    """

    async def one(ask: ObjectRequest) -> tuple[ObjectRequest, FetchOutcome]:
        try:
            if ask.history == 1:
                return ask, (await vault.read(ask.ref),)
            listed = await vault.list_versions(ask.ref)
            chosen = choose_versions(listed, start=ask.ref.version, count=ask.history)
            refs = [replace(ask.ref, version=version.version) for version in chosen]
            results = await asyncio.gather(*map(vault.read, refs), return_exceptions=True)
        except KeyferryError as error:
            return ask, error
        return ask, _contents_or_error(results)

    return dict(await asyncio.gather(*map(one, dict.fromkeys(requests))))


def _contents_or_error(results: Iterable[Content | BaseException]) -> FetchOutcome:
    """The contents, or the first error of ours; any other error is raised."""
    contents: list[Content] = []
    for result in results:
        if isinstance(result, KeyferryError):
            return result
        if isinstance(result, BaseException):
            raise result
        contents.append(result)
    return tuple(contents)
