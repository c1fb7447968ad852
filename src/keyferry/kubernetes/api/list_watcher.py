"""Lists and watches objects of the Kubernetes API for a reflector."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from keyferry.kubernetes.api.client import KubeApi, ListOptions
    from keyferry.kubernetes.api.reflector import Change, Listing
    from keyferry.kubernetes.object_codec import Manifest

T = TypeVar("T")


class ApiListWatcher:
    """Lists and watches one selection, for a reflector.

    Args:
        api: the Kubernetes API.
        options: the selection.
    """

    def __init__(self, api: KubeApi, options: ListOptions) -> None:
        self._api = api
        self._options = options

    async def list(self, parse: Callable[[Manifest], T]) -> Listing[T]:
        """Return all objects of the selection."""
        return await self._api.list_parsed(self._options, parse)

    def watch(self, resource_version: str) -> AsyncGenerator[Change, None]:
        """Yield the changes after `resource_version`."""
        return self._api.watch(self._options, resource_version)
