"""Lists and watches objects of the Kubernetes API for a reflector.

1. The server streams lists: one request lists and watches.
2. It does not, or refuses: a list, then a watch from its resourceVersion.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from keyferry.kubernetes.api.api_errors import ApiGoneError, ApiStatusError
from keyferry.kubernetes.api.watches.changes import (
    ANY_VERSION,
    LATEST_VERSION,
    Began,
    Changed,
    ListFirst,
    Progress,
    Resume,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from keyferry.kubernetes.api.client import KubeApi, ListOptions
    from keyferry.kubernetes.api.watches.changes import Change, WatchStart

_REFUSED = {400, 422, 500}
"""How a server without streaming lists answers: it forbids their parameters. With an etcd before
3.4.31 or 3.5.13, it accepts them, and then reports an internal error."""


class ApiListWatcher:
    """Lists and watches one selection, for a reflector.

    Args:
        api: the Kubernetes API.
        options: the selection.
        paged: fetch lists page by page. For many objects: a page is all that is in memory at once.
            Otherwise the watch cache of the server answers, which ignores the page size.
    """

    def __init__(self, api: KubeApi, options: ListOptions, *, paged: bool = False) -> None:
        self._api = api
        self._options = options
        self._paged = paged

    async def watch(self, start: WatchStart) -> AsyncGenerator[Change, None]:
        """Yield all objects, if `start` wants them, and then changes, until the stream ends."""
        if isinstance(start, ListFirst):
            if self._api.streams_lists:
                try:
                    async with aclosing(
                        self._api.watch(self._options, _streamed(start))
                    ) as changes:
                        async for change in changes:
                            yield change
                    return
                except ApiStatusError as error:
                    if error.http_status not in _REFUSED:
                        raise
                    self._api.streams_lists = False
            version = ""
            async with aclosing(self._list(start)) as listed:
                async for change in listed:
                    yield change
                    if isinstance(change, Progress):
                        version = change.version
            start = Resume(version)
        async with aclosing(self._api.watch(self._options, start)) as changes:
            async for change in changes:
                yield change

    async def _list(self, start: ListFirst) -> AsyncGenerator[Change, None]:
        """Yield all objects. If a page has expired, begin again without pages, as client-go."""
        version = LATEST_VERSION if self._paged else start.not_older_than
        try:
            async with aclosing(self._list_once(version, paged=self._paged)) as changes:
                async for change in changes:
                    yield change
        except ApiGoneError:
            if not self._paged:
                raise
            async with aclosing(self._list_once(version, paged=False)) as changes:
                async for change in changes:
                    yield change

    async def _list_once(self, version: str, *, paged: bool) -> AsyncGenerator[Change, None]:
        yield Began()
        pages = self._api.pages(self._options, version=version, paged=paged)
        last = ""
        async with aclosing(pages):
            async for page in pages:
                last = page.version
                for manifest in page.objects:
                    yield Changed(manifest)
        yield Progress(last, ends_list=True)


def _streamed(start: ListFirst) -> ListFirst:
    """Return where a streaming list starts: the latest state instead of any state, as client-go.

    The watch cache of the server has it. A list of any state ends with a resourceVersion so old
    that a watch may not resume from it.
    """
    return ListFirst(LATEST_VERSION) if start.not_older_than == ANY_VERSION else start
