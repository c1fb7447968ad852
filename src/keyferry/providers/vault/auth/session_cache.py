"""The logins in use, by whole identity; the longest unused go when they are too many.

Kubernetes auth knows service accounts and no pods, so its tokens are shared by the pods of one
service account. Whether a mount is of that kind only its answers tell; until one has come, and for
every other kind that takes service-account tokens, each pod logs in for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.aio.single_flight import SharedCall
from keyferry.errors import KeyferryError
from keyferry.formats.bounded_dict import BoundedDict
from keyferry.providers.vault.auth.login import JwtLogin
from keyferry.providers.vault.auth.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.auth.service_account_tokens import TokenRequester
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.http.server import Server
    from keyferry.resilience.cache_key import IdentityHasher, IdentityKey
    from keyferry.resilience.call_context import Purpose

_AuthMountKey = tuple[str, str, str, str]


class OpenSession:
    """A session with the newest proof of who uses it.

    Args:
        underlying: the token.
        login: who.
        identity: whose token it is.
        cached_tokens: the tokens that were kept before this mount began.
        shared: whether other pods use it too.
    """

    def __init__(
        self,
        underlying: Session,
        login: Login,
        identity: IdentityKey,
        *,
        cached_tokens: tuple[VaultToken, ...],
        shared: bool,
    ) -> None:
        self.underlying = underlying
        self.login = login
        self.identity = identity
        self.shared = shared
        self._cached_tokens = cached_tokens

    async def get_token(self, purpose: Purpose) -> VaultToken:
        """A token that should be good; see `Session.grant`."""
        return await self.underlying.get_token(self.login, purpose)

    def is_from_cache(self, token: VaultToken) -> bool:
        """Whether another token could be accepted where this one is refused."""
        return any(token is old for old in self._cached_tokens)


class SessionCache:
    """All sessions of one provider.

    Args:
        transport: where tokens are asked for.
        token_requester: makes service-account tokens where kubelet sent none.
        get_hasher: makes whole identities.
        max_sessions: so many are kept; 0 for none.
    """

    def __init__(
        self,
        transport: VaultTransport,
        token_requester: TokenRequester,
        *,
        get_hasher: Callable[[], IdentityHasher],
        max_sessions: int,
    ) -> None:
        self._transport = transport
        self._get_hasher = get_hasher
        self._token_requester = token_requester
        self._sessions: BoundedDict[IdentityKey, Session] = BoundedDict(max(max_sessions, 0))
        self._method_kinds: BoundedDict[_AuthMountKey, bool] = BoundedDict(max(max_sessions, 1))
        self._first_logins: dict[_AuthMountKey, SharedCall[VaultToken]] = {}

    async def open(self, login: Login, purpose: Purpose, *, per_pod: bool = False) -> OpenSession:
        """The session for a login; it is logged in when it is first used.

        Args:
            login: who.
            purpose: why.
            per_pod: whether it is not to be shared with other pods, whatever the auth method.

        Raises:
            As `Session.grant`.
        """
        old = self._cached_tokens(login)
        shared = not isinstance(login.method, JwtLogin)
        if not shared:
            await self._detect_method(login, purpose)
            shared = self._method_kinds.get(_auth_mount_key(login.server, login.auth_mount), False)
        return self._open(login, old, per_pod=per_pod or not shared)

    def identity_key(self, login: Login, *, per_pod: bool) -> IdentityKey:
        """As whom `login` asks.

        Args:
            login: who.
            per_pod: whether the vault may tell the pods of one service account apart.
        """
        return self._get_hasher().identity_key(login.mode, login.identity_parts(per_pod=per_pod))

    def remember_kind(self, server: Server, auth_mount: str, *, kubernetes: bool) -> None:
        """Take over what an earlier process found out of an auth method."""
        self._method_kinds[_auth_mount_key(server, auth_mount)] = kubernetes

    async def _detect_method(self, login: Login, purpose: Purpose) -> None:
        """Let one pod log in before the others of an unknown auth method do."""
        place = _auth_mount_key(login.server, login.auth_mount)
        if self._method_kinds.touch(place) is not None:
            return
        if place in self._first_logins:
            try:
                await self._first_logins[place].wait()
            except KeyferryError:
                return  # the mount of that pod; ours may end better
            return
        flight = SharedCall(
            self._log_in_first(login, purpose), lambda: self._first_login_done(place)
        )
        self._first_logins[place] = flight
        await flight.wait()

    async def _log_in_first(self, login: Login, purpose: Purpose) -> VaultToken:
        alone = self._open(login, (), per_pod=True)
        grant = await alone.get_token(purpose)
        self._method_kinds[_auth_mount_key(login.server, login.auth_mount)] = (
            grant.from_kubernetes_auth
        )
        if grant.from_kubernetes_auth:
            self._sessions.pop(alone.identity, None)
            self._sessions[self.identity_key(login, per_pod=False)] = alone.underlying
        return grant

    def _first_login_done(self, mount_key: _AuthMountKey) -> None:
        self._first_logins.pop(mount_key, None)

    def _cached_tokens(self, login: Login) -> tuple[VaultToken, ...]:
        """The tokens that are kept for a login, shared and its own."""
        both = (self.identity_key(login, per_pod=alone) for alone in (False, True))
        found = map(self._sessions.get, both)
        return tuple(session.cached_token for session in found if session and session.cached_token)

    def _open(
        self, login: Login, cached_tokens: tuple[VaultToken, ...], *, per_pod: bool
    ) -> OpenSession:
        identity = self.identity_key(login, per_pod=per_pod)
        session = self._sessions.get(identity) or Session(self._transport, self._token_requester)
        self._sessions[identity] = session
        return OpenSession(
            session, login, identity, cached_tokens=cached_tokens, shared=not per_pod
        )


def _auth_mount_key(server: Server, auth_mount: str) -> _AuthMountKey:
    return server.address.base, server.address.socket, server.namespace, auth_mount
