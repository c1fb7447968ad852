"""A dynamic secret that was created for one pod, and when to renew or replace it. [pure]

A lease expires with the token that it was created with, so both are renewed. A certificate from a
role of the PKI engine has no lease, but it also expires. Upstream tracks none of this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.providers.expiry import Expiry
from keyferry.providers.vault.auth.login import TokenLogin
from keyferry.providers.vault.http.response import MAX_TTL_SECONDS, memory_size, number_or_zero
from keyferry.resilience.call_context import KEYFERRY, Caller

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.auth.session import Session
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.http.server import Server
    from keyferry.providers.vault.objects import ReadRequest
    from keyferry.resilience.cache_key import CacheKey

RENEW_BELOW_SHARE = 1 / 3
"""Share of the lifetime; a secret with less time left is renewed or replaced."""


class LeaseAction(Enum):
    """The action that a tracked secret needs."""

    KEEP = "keep"
    RENEW = "renew"
    REPLACE = "replace"


class LeaseOrigin(Struct, frozen=True):
    """The vault and login that a secret came from, which renewing and revoking it requires.

    Attributes:
        server: the vault.
        auth_mount: path of the auth method.
        mode: kind of the login, as in `Login.mode`.
        token_revocable: whether the token came from a login of Keyferry, so that it may be revoked.
        caller: on whose behalf the secret was created.
    """

    server: Server
    auth_mount: str
    mode: str
    token_revocable: bool
    caller: Caller = KEYFERRY


def origin_of(login: Login) -> LeaseOrigin:
    """Return the origin of secrets that are read with `login`."""
    revocable = not isinstance(login.method, TokenLogin)
    return LeaseOrigin(
        login.server,
        login.auth_mount,
        login.mode,
        token_revocable=revocable,
        caller=login.caller,
    )


class ReadResult(Struct, frozen=True):
    """The response to a read, and the token that it was read with.

    Attributes:
        response: response of the vault.
        token: token that was used.
        origin: the vault and login.
        session: session that caches the token; None after a restart of the process.
        session_shared: whether other pods also use the session.
    """

    response: VaultResponse
    token: VaultToken
    origin: LeaseOrigin
    session: Session | None
    session_shared: bool

    def invalidate_token(self) -> None:
        """Remove the token from its session, so that no further request uses it."""
        if self.session is not None:
            self.session.invalidate(self.token)


@dataclass(slots=True, eq=False)
class Lease:
    """A dynamic secret of one pod. Times are in seconds of the monotonic clock.

    Attributes:
        key: the request that created the secret, and the pod that it was created for.
        result: the secret.
        ttl: lifetime in seconds with which it was created.
        lease_expires_at: when the lease or certificate expires, regardless of the token.
        renewable: whether the vault would still renew the lease.
        volumes: target paths of the volumes that use the secret.
        retry_at: when a failed renewal is tried again.
        memory: the memory of the secret in bytes, as long as it is tracked.
    """

    key: CacheKey
    result: ReadResult
    ttl: float
    lease_expires_at: float
    renewable: bool
    volumes: set[str] = field(default_factory=set)
    retry_at: float = 0.0
    memory: int = field(init=False)

    def __post_init__(self) -> None:
        """Measure the secret."""
        self.memory = memory_size(self.result.response)

    @property
    def id(self) -> str:
        """The ID of the lease; "" for a certificate, which expires but has no lease."""
        return self.result.response.lease_id

    @property
    def path(self) -> str:
        """The API path that the secret was read from, for messages."""
        return self.key.resource[1]

    @property
    def expires_at(self) -> float:
        """When the secret becomes invalid, because it or its token expires."""
        return (
            min(self.lease_expires_at, self.result.token.expires_at)
            if self.id
            else self.lease_expires_at
        )

    @property
    def renew_at(self) -> float:
        """When the secret or its token is due for renewal or replacement."""
        renew_at = self.lease_expires_at - self.ttl * RENEW_BELOW_SHARE
        return min(renew_at, self.result.token.renew_at) if self.id else renew_at

    def expiry(self, *, now: float, wall_time: float) -> Expiry:
        """Return when the secret expires, for a secret that is due for replacement.

        Args:
            now: current time in seconds of the monotonic clock.
            wall_time: current time in seconds since 1970.
        """
        return Expiry(f"secret {self.path}", round(wall_time + self.expires_at - now), self.ttl)

    def next_action(self, now: float) -> LeaseAction:
        """Return the action that the secret needs at `now`, in seconds of the monotonic clock.

        1. A certificate cannot be renewed: it is replaced when it is due.
        2. A secret that has expired, itself or with its token, is replaced.
        3. A secret that is due, or whose token is due, is replaced if the vault would not renew
           whichever is due, and otherwise renewed.
        """
        token = self.result.token
        due = self.lease_expires_at - now <= self.ttl * RENEW_BELOW_SHARE
        if not self.id:
            return LeaseAction.REPLACE if due else LeaseAction.KEEP
        if now >= self.expires_at:
            return LeaseAction.REPLACE
        token_due = now >= token.renew_at
        if (due and not self.renewable) or (token_due and not token.renewable):
            return LeaseAction.REPLACE
        return LeaseAction.RENEW if due or token_due else LeaseAction.KEEP


def ttl_of(response: VaultResponse, request: ReadRequest, *, wall_time: float) -> float | None:
    """Return the lifetime of a dynamic secret in seconds; None for a stored secret.

    Args:
        response: response of the vault.
        request: request that it answers.
        wall_time: current time in seconds since 1970.
    """
    if response.lease_id:
        return response.lease_seconds or None
    if request.cacheable or response.data is None or "certificate" not in response.data:
        return None
    seconds = number_or_zero(response.data.get("expiration")) - wall_time
    return seconds if 0 < seconds < MAX_TTL_SECONDS else None
