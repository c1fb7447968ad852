"""Cache of sessions by identity. At the limit, the namespace with the most sessions loses some.

Kubernetes auth distinguishes service accounts but not pods, so pods of one service account share a
token. Only the response to a login shows whether an auth method is Kubernetes auth. Until the first
response, and for other methods that use service-account tokens, each pod logs in on its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from keyferry.aio.single_flight import SharedCall
from keyferry.errors import KeyferryError
from keyferry.formats.bounded_dict import FairBoundedDict
from keyferry.providers.vault.auth.login import JwtLogin
from keyferry.providers.vault.auth.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.auth.service_account_tokens import TokenRequester
    from keyferry.providers.vault.auth.session import VaultTransport
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.leases.lease import LeaseOrigin
    from keyferry.resilience.cache_key import IdentityHasher, IdentityKey
    from keyferry.resilience.call_context import Purpose

_AuthMountKey = tuple[str, str, str, str, str]


class OpenSession:
    """A session as one mount uses it: with the latest credentials of its pod.

    Args:
        underlying: session with the token.
        login: login of the pod.
        identity: identity of the session.
        cached_tokens: tokens that were cached before this mount began.
        shared: whether other pods use the session too.
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
        """Return a valid token; see `Session.get_token`."""
        return await self.underlying.get_token(self.login, purpose)

    def is_from_cache(self, token: VaultToken) -> bool:
        """Return whether `token` was cached before this mount began.

        If the vault rejects such a token, a new login may help.
        """
        return any(token is old for old in self._cached_tokens)


class SessionCache:
    """The sessions of one provider.

    Args:
        transport: sends requests to vaults.
        token_requester: requests service-account tokens that kubelet did not send.
        get_hasher: returns the hasher of identities.
        max_sessions: maximum number of cached sessions; 0 to cache none.
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
        self._sessions: FairBoundedDict[IdentityKey, Session] = FairBoundedDict(
            max(max_sessions, 0)
        )
        self._method_kinds: FairBoundedDict[_AuthMountKey, bool] = FairBoundedDict(
            max(max_sessions, 1)
        )
        self._first_logins: dict[_AuthMountKey, SharedCall[VaultToken]] = {}

    async def open(self, login: Login, purpose: Purpose, *, per_pod: bool = False) -> OpenSession:
        """Return the session for a login. It logs in when its token is first needed.

        Args:
            login: login of the pod.
            purpose: first mount or refresh.
            per_pod: whether only this pod may use the session, whatever the auth method.

        Raises:
            IdentityError: the vault rejected the login.
            VaultError: the vault does not respond.
        """
        cached_tokens = self._cached_tokens(login)
        shared = not isinstance(login.method, JwtLogin)
        if not shared:
            await self._detect_method(login, purpose)
            shared = self._method_kinds.get(_auth_mount_key(login), False)
        return self._open(login, cached_tokens, per_pod=per_pod or not shared)

    def identity_key(self, login: Login, *, per_pod: bool) -> IdentityKey:
        """Return the identity of a login.

        Args:
            login: the login.
            per_pod: whether the vault may distinguish the pods of one service account.
        """
        return self._get_hasher().identity_key(login.mode, login.identity_parts(per_pod=per_pod))

    def remember_kind(self, origin: LeaseOrigin, *, kubernetes: bool) -> None:
        """Restore what an earlier process detected about an auth method.

        Args:
            origin: the vault and the path of the auth method.
            kubernetes: whether it is Kubernetes auth.
        """
        self._method_kinds.put(_auth_mount_key(origin), kubernetes, tenant=origin.caller.tenant)

    async def _detect_method(self, login: Login, purpose: Purpose) -> None:
        """Detect whether an auth method is Kubernetes auth: let one pod log in before others."""
        mount_key = _auth_mount_key(login)
        if self._method_kinds.touch(mount_key) is not None:
            return
        if mount_key in self._first_logins:
            # A failed login of another pod is not an error of this mount.
            with suppress(KeyferryError):
                await self._first_logins[mount_key].wait()
            return
        first_login = SharedCall(
            self._log_in_first(login, purpose), lambda: self._first_login_done(mount_key)
        )
        self._first_logins[mount_key] = first_login
        await first_login.wait()

    async def _log_in_first(self, login: Login, purpose: Purpose) -> VaultToken:
        session = self._open(login, (), per_pod=True)
        token = await session.get_token(purpose)
        tenant, is_kubernetes = login.caller.tenant, token.from_kubernetes_auth
        self._method_kinds.put(_auth_mount_key(login), is_kubernetes, tenant=tenant)
        if token.from_kubernetes_auth:
            self._sessions.pop(session.identity, None)
            shared = self.identity_key(login, per_pod=False)
            self._sessions.put(shared, session.underlying, tenant=tenant)
        return token

    def _first_login_done(self, mount_key: _AuthMountKey) -> None:
        self._first_logins.pop(mount_key, None)

    def _cached_tokens(self, login: Login) -> tuple[VaultToken, ...]:
        """Return the cached tokens of a login: the shared one and the pod's own."""
        identities = (self.identity_key(login, per_pod=per_pod) for per_pod in (False, True))
        sessions = map(self._sessions.get, identities)
        return tuple(
            session.cached_token for session in sessions if session and session.cached_token
        )

    def _open(
        self, login: Login, cached_tokens: tuple[VaultToken, ...], *, per_pod: bool
    ) -> OpenSession:
        identity = self.identity_key(login, per_pod=per_pod)
        session = self._sessions.get(identity) or Session(self._transport, self._token_requester)
        self._sessions.put(identity, session, tenant=login.caller.tenant)
        return OpenSession(
            session, login, identity, cached_tokens=cached_tokens, shared=not per_pod
        )


def _auth_mount_key(place: Login | LeaseOrigin) -> _AuthMountKey:
    # A tenant may choose a slow or wrong server, for example with a TLS server name of its own.
    # So it learns nothing for other tenants, and they do not wait for its first login.
    server = place.server
    return (
        place.caller.tenant,
        server.address.base,
        server.address.socket,
        server.namespace,
        place.auth_mount,
    )
