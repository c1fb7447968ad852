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

from keyferry.economy.key import FetchKey
from keyferry.errors import KeyferryError
from keyferry.vault.answer import weigh
from keyferry.vault.client import VaultClient
from keyferry.vault.folder_list import FolderList
from keyferry.vault.kv_list import is_provable, kv_secret
from keyferry.vault.lease import Issued, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.contract import Purpose
    from keyferry.economy.errand import Errand
    from keyferry.economy.hub import Economy
    from keyferry.economy.proofs import Proofs
    from keyferry.vault.answer import Answer
    from keyferry.vault.leases import Leases
    from keyferry.vault.objects import ReadRequest
    from keyferry.vault.server import Server
    from keyferry.vault.session import Vaults
    from keyferry.vault.sessions import OpenSession, Sessions

MAX_LEASED_PATHS = 10_000


class LeasedPaths:
    """The paths that are known to give leases; the oldest go when they are too many."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], None] = {}

    def add(self, server: Server, path: str) -> None:
        """Remember one."""
        self._known[_place(server, path)] = None
        if len(self._known) > MAX_LEASED_PATHS:
            del self._known[next(iter(self._known))]

    def has(self, server: Server, path: str) -> bool:
        """Whether it is one."""
        return _place(server, path) in self._known


def _place(server: Server, path: str) -> tuple[str, str, str]:
    return server.host, server.namespace, path


@dataclass(frozen=True, slots=True)
class VaultParts:
    """What all mounts of one provider share.

    Attributes:
        vaults: the way to the vaults.
        economy: shares calls.
        sessions: the logins.
        leases: what is held for pods.
        leased: the paths that give leases.
        proofs: prove that nothing has changed; None: nobody asks for that.
    """

    vaults: Vaults
    economy: Economy
    sessions: Sessions
    leases: Leases
    leased: LeasedPaths
    proofs: Proofs | None


class Reader:
    """Reads for one mount.

    Args:
        parts: shared with all mounts.
        session: as whom.
        volume: the target path that it is for.
        purpose: why.
    """

    def __init__(
        self, parts: VaultParts, session: OpenSession, *, volume: str, purpose: Purpose
    ) -> None:
        self._parts = parts
        self._session = session
        self._login = session.login
        self._of_pod = parts.sessions.whole_identity(session.login, per_pod=True)
        self._volume = volume
        self._purpose = purpose
        self._stored: set[FetchKey] = set()

    async def read_all(
        self, requests: Iterable[ReadRequest]
    ) -> Mapping[ReadRequest, Answer | KeyferryError]:
        """Every request with what came of it; one that fails keeps no other from being read."""

        async def one(request: ReadRequest) -> Answer | KeyferryError:
            try:
                return await self._read(request)
            except KeyferryError as error:
                return error

        wanted = list(dict.fromkeys(requests))
        answers = await asyncio.gather(*map(one, wanted))
        return dict(zip(wanted, answers, strict=True))

    def settle(self, requests: Iterable[ReadRequest]) -> None:
        """The volume holds these; what was held for others that it had is given back."""
        self._parts.leases.settle(self._volume, map(self._own_key, requests))
        self._parts.economy.settle(self._volume, self._stored)

    async def _read(self, request: ReadRequest) -> Answer:
        known = self._parts.leased.has(self._login.server, request.path.path)
        if known or not request.shareable or self._own_key(request) in self._parts.leases:
            return await self._obtain(request)
        mine: list[Issued] = []

        async def call(errand: Errand) -> Issued:
            mine.append(await self._ask(self._session, request, errand))
            return mine[0]

        key = self._key(request, per_pod=False)
        issued: Issued = await self._parts.economy.fetch(
            key,
            call,
            purpose=self._purpose,
            weigh=lambda found: None if found.answer.lease_id else weigh(found.answer),
            unchanged=partial(self._has_not_changed, request),
            volume=self._volume,
        )
        if not issued.answer.lease_id:
            self._stored.add(key)
            return issued.answer
        self._parts.leased.add(self._login.server, request.path.path)
        if mine and self._parts.leases.hold(self._own_key(request), request, issued, self._volume):
            return issued.answer
        return await self._obtain(request)

    async def _has_not_changed(self, request: ReadRequest, held: Issued, _: Errand) -> bool:
        """Whether the list of its folder proves that what is held is still there."""
        proofs, secret = self._parts.proofs, kv_secret(request.path)
        if proofs is None or secret is None or not is_provable(held.answer):
            return False
        client = partial(VaultClient, self._parts.vaults, self._session)
        key = self._key(request, per_pod=False)
        return await proofs.has_not_changed(FolderList(client, key, secret))

    async def _obtain(self, request: ReadRequest) -> Answer:
        return await self._parts.leases.obtain(
            self._own_key(request), request, self._volume, lambda: self._make(request)
        )

    async def _make(self, request: ReadRequest) -> Issued:
        """Ask for this pod alone."""
        if not self._parts.leased.has(self._login.server, request.path.path):
            issued = await self._ask(self._session, request, self._errand())
            if issued.answer.lease_id:
                self._parts.leased.add(self._login.server, request.path.path)
            return issued
        session = await self._parts.sessions.open(self._login, self._purpose, per_pod=True)
        return await self._ask(session, request, self._errand())

    def _errand(self) -> Errand:
        return self._parts.vaults.errand(self._login, self._purpose)

    async def _ask(self, session: OpenSession, request: ReadRequest, errand: Errand) -> Issued:
        client = VaultClient(self._parts.vaults, session, errand)
        answer, grant = await client.read(request)
        return Issued(answer, grant, origin_of(session.login), session.session, session.shared)

    def _key(self, request: ReadRequest, *, per_pod: bool) -> FetchKey:
        identity = self._of_pod if per_pod else self._session.identity
        arguments = () if request.arguments is None else (request.arguments.decode(),)
        item = (request.method, request.path.path, request.path.query, *arguments)
        return FetchKey(self._login.server.host, identity, item)

    def _own_key(self, request: ReadRequest) -> FetchKey:
        """The question as this pod asks it; where it has no name, as this volume does."""
        key = self._key(request, per_pod=True)
        return key if self._login.pod.uid else key._replace(item=(*key.item, self._volume))
