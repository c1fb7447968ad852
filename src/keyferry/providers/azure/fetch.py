"""Fetches what a mount asks for: every object and version once, all at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from keyferry.errors import KeyferryError
from keyferry.providers.azure.versions import choose_versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.providers.azure.fetch_plan import FetchOutcome, ObjectRequest
    from keyferry.providers.azure.objects import ObjectRef
    from keyferry.providers.azure.responses import Content, ListedVersion


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
