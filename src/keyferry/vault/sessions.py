"""The logins in use, by whole identity; the longest unused go when they are too many.

Kubernetes auth knows service accounts and no pods, so its tokens are shared by the pods of one
service account. Whether a mount is of that kind only its answers tell; until one has come, and for
every other kind that takes service-account tokens, each pod logs in for itself.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from keyferry.economy.flights import Flight
from keyferry.errors import KeyferryError
from keyferry.vault.login import JwtLogin
from keyferry.vault.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.contract import Purpose
    from keyferry.economy.key import Identities, WholeIdentity
    from keyferry.vault.grant import Grant
    from keyferry.vault.login import Login
    from keyferry.vault.pod_tokens import PodTokens
    from keyferry.vault.server import Server
    from keyferry.vault.session import Vaults

_Place = tuple[str, str, str, str]


class OpenSession:
    """A session with the newest proof of who uses it.

    Args:
        session: the token.
        login: who.
        identity: whose token it is.
        old: the tokens that were kept before this mount began.
        shared: whether other pods use it too.
    """

    def __init__(
        self,
        session: Session,
        login: Login,
        identity: WholeIdentity,
        *,
        old: tuple[Grant, ...],
        shared: bool,
    ) -> None:
        self.session = session
        self.login = login
        self.identity = identity
        self.shared = shared
        self._old = old

    async def grant(self, purpose: Purpose) -> Grant:
        """A token that should be good; see `Session.grant`."""
        return await self.session.grant(self.login, purpose)

    def may_be_stale(self, grant: Grant) -> bool:
        """Whether another token could be accepted where this one is refused."""
        return any(grant is old for old in self._old)


class Sessions:
    """All sessions of one provider.

    Args:
        vaults: where tokens are asked for.
        tokens: makes service-account tokens where kubelet sent none.
        identities: makes whole identities.
        limit: so many are kept; 0 for none.
    """

    def __init__(
        self,
        vaults: Vaults,
        tokens: PodTokens,
        *,
        identities: Callable[[], Identities],
        limit: int,
    ) -> None:
        self._vaults = vaults
        self._identities = identities
        self._tokens = tokens
        self._limit = max(limit, 0)
        self._kept: OrderedDict[WholeIdentity, Session] = OrderedDict()
        self._kinds: OrderedDict[_Place, bool] = OrderedDict()
        self._first: dict[_Place, Flight[Grant]] = {}

    async def open(self, login: Login, purpose: Purpose, *, per_pod: bool = False) -> OpenSession:
        """The session for a login; it is logged in when it is first used.

        Args:
            login: who.
            purpose: why.
            per_pod: whether it is not to be shared with other pods, whatever the auth method.

        Raises:
            As `Session.grant`.
        """
        old = self._current(login)
        shared = not isinstance(login.method, JwtLogin)
        if not shared:
            await self._find_kind(login, purpose)
            shared = self._kinds.get(_place(login.server, login.mount), False)
        return self._session(login, old, per_pod=per_pod or not shared)

    def whole_identity(self, login: Login, *, per_pod: bool) -> WholeIdentity:
        """As whom `login` asks.

        Args:
            login: who.
            per_pod: whether the vault may tell the pods of one service account apart.
        """
        return self._identities().of(login.mode, login.key(per_pod=per_pod))

    def learn_kind(self, server: Server, mount: str, *, kubernetes: bool) -> None:
        """Take over what an earlier process found out of an auth method."""
        self._kinds[_place(server, mount)] = kubernetes

    async def _find_kind(self, login: Login, purpose: Purpose) -> None:
        """Let one pod log in before the others of an unknown auth method do."""
        place = _place(login.server, login.mount)
        if place in self._kinds:
            self._kinds.move_to_end(place)
            return
        if place in self._first:
            try:
                await self._first[place].wait()
            except KeyferryError:
                return  # the mount of that pod; ours may end better
            return
        flight = Flight(self._log_in_first(login, purpose), lambda: self._landed(place))
        self._first[place] = flight
        await flight.wait()

    async def _log_in_first(self, login: Login, purpose: Purpose) -> Grant:
        alone = self._session(login, (), per_pod=True)
        grant = await alone.grant(purpose)
        self._kinds[_place(login.server, login.mount)] = grant.kubernetes
        if grant.kubernetes:
            self._kept.pop(alone.identity, None)
            self._keep(self.whole_identity(login, per_pod=False), alone.session)
        while len(self._kinds) > max(self._limit, 1):
            self._kinds.popitem(last=False)
        return grant

    def _landed(self, place: _Place) -> None:
        self._first.pop(place, None)

    def _current(self, login: Login) -> tuple[Grant, ...]:
        """The tokens that are kept for a login, shared and its own."""
        both = (self.whole_identity(login, per_pod=alone) for alone in (False, True))
        found = map(self._kept.get, both)
        return tuple(session.current for session in found if session and session.current)

    def _session(self, login: Login, old: tuple[Grant, ...], *, per_pod: bool) -> OpenSession:
        identity = self.whole_identity(login, per_pod=per_pod)
        session = self._kept.get(identity) or Session(self._vaults, self._tokens)
        self._keep(identity, session)
        return OpenSession(session, login, identity, old=old, shared=not per_pod)

    def _keep(self, identity: WholeIdentity, session: Session) -> None:
        self._kept[identity] = session
        self._kept.move_to_end(identity)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)


def _place(server: Server, mount: str) -> _Place:
    return server.address.base, server.address.socket, server.namespace, mount
