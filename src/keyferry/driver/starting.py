"""Lets calls wait until the engine runs, because CSI is served before it is loaded."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keyferry.errors import ProviderUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyferry.driver.publish.publisher import Publisher
    from keyferry.driver.request import PublishRequest, UnpublishRequest


class StartingPublisher:
    """Publishes and unpublishes volumes with a publisher that is added later."""

    def __init__(self) -> None:
        self._publisher: Publisher | None = None
        self._ended = asyncio.Event()

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Let calls fail if the block raises."""
        try:
            yield
        except BaseException:
            self._ended.set()
            raise

    def started(self, publisher: Publisher) -> None:
        """Let all calls proceed with `publisher`."""
        self._publisher = publisher
        self._ended.set()

    async def publish(self, request: PublishRequest) -> None:
        """Publish a volume; see `Publisher`.

        Raises:
            ProviderUnreachableError: the driver cannot start.
        """
        await (await self._get()).publish(request)

    async def unpublish(self, request: UnpublishRequest) -> None:
        """Unpublish a volume; see `Publisher`.

        Raises:
            ProviderUnreachableError: the driver cannot start.
        """
        await (await self._get()).unpublish(request)

    async def _get(self) -> Publisher:
        if self._publisher is None:
            await self._ended.wait()
        if self._publisher is None:
            raise ProviderUnreachableError(
                "the driver cannot start",
                "Kubelet retries the mount. See the log of the driver.",
            )
        return self._publisher
