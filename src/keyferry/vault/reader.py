"""Reads what one mount asks for: every request once, all at the same time.

What only shows what is stored is shared with all mounts of the same identity. What was made for
whoever asked (an answer with a lease) never is: who finds one that was made for another asks again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keyferry.economy.key import FetchKey
from keyferry.errors import KeyferryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.contract import Purpose
    from keyferry.economy.hub import Economy
    from keyferry.vault.answer import Answer
    from keyferry.vault.client import VaultClient
    from keyferry.vault.objects import ReadRequest


class Reader:
    """Reads as one identity.

    Args:
        client: as whom.
        economy: shares calls.
        purpose: why.
    """

    def __init__(self, client: VaultClient, economy: Economy, purpose: Purpose) -> None:
        self._client = client
        self._economy = economy
        self._purpose = purpose

    async def read_all(
        self, requests: Iterable[ReadRequest]
    ) -> Mapping[ReadRequest, Answer | KeyferryError]:
        """Every request with what came of it; one that fails keeps no other from being read."""

        async def one(request: ReadRequest) -> tuple[ReadRequest, Answer | KeyferryError]:
            try:
                return request, await self._read(request)
            except KeyferryError as error:
                return request, error

        return dict(await asyncio.gather(*map(one, dict.fromkeys(requests))))

    async def _read(self, request: ReadRequest) -> Answer:
        if not request.shareable:
            return (await self._client.read(request)).answer
        issued = await self._economy.fetch(
            self._key(request), lambda _: self._client.read(request), purpose=self._purpose
        )
        return issued.answer

    def _key(self, request: ReadRequest) -> FetchKey:
        session = self._client.session
        item = (request.method, request.path.path, request.path.query)
        return FetchKey(session.login.server.host, session.identity, item)
