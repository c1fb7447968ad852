"""A secret that was made for one pod, how long it lasts, and what to do about that. [pure]

Upstream keeps none of it. A lease ends with the token that it was made with, so
both are renewed. What a role of the PKI engine issues has no lease, but an end all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from keyferry.providers.expiry import Expiry
from keyferry.providers.vault.auth.login import TokenLogin
from keyferry.providers.vault.http.response import MAX_TTL_SECONDS, number_or_zero

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.login import Login
    from keyferry.providers.vault.auth.session import Session
    from keyferry.providers.vault.auth.token import VaultToken
    from keyferry.providers.vault.http.response import VaultResponse
    from keyferry.providers.vault.http.server import Server
    from keyferry.providers.vault.objects import ReadRequest
    from keyferry.resilience.cache_key import CacheKey

RENEW_BELOW_SHARE = 1 / 3
"""What has less than this share of its life left is renewed, or replaced."""


class LeaseAction(Enum):
    """What is to be done with a secret that is held."""

    KEEP = "keep"
    RENEW = "renew"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class LeaseOrigin:
    """By whose login a secret came from where: what renewing and revoking it takes.

    Attributes:
        server: the vault.
        auth_mount: the path of the auth method.
        mode: the kind of the login.
        token_revocable: whether the token came of a login of ours, so that it may be revoked.
    """

    server: Server
    auth_mount: str
    mode: str
    token_revocable: bool


def origin_of(login: Login) -> LeaseOrigin:
    """The origin of what is read by a login."""
    own = not isinstance(login.method, TokenLogin)
    return LeaseOrigin(login.server, login.auth_mount, login.mode, token_revocable=own)


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A secret, and what it was read with.

    Attributes:
        response: of the vault.
        token: the token that was used.
        origin: where it came from.
        session: whose token it is; None where it is of a login of an earlier process.
        session_shared: whether other pods use the session too.
    """

    response: VaultResponse
    token: VaultToken
    origin: LeaseOrigin
    session: Session | None
    session_shared: bool

    def invalidate_token(self) -> None:
        """Let nobody else use the token any more."""
        if self.session is not None:
            self.session.invalidate(self.token)


@dataclass(slots=True, eq=False)
class Lease:
    """A secret that is held for the volumes of one pod. Times are those of the process's clock.

    Attributes:
        key: what it is the answer to, and for which pod.
        result: the secret.
        ttl: seconds that it was made for.
        lease_expires_at: when it ends by itself.
        renewable: whether the vault would renew it still.
        volumes: the target paths that use it.
        retry_at: when a renewal that failed is tried again.
    """

    key: CacheKey
    result: ReadResult
    ttl: float
    lease_expires_at: float
    renewable: bool
    volumes: set[str] = field(default_factory=set)
    retry_at: float = 0.0

    @property
    def id(self) -> str:
        """Of the vault; "" for what only has an end."""
        return self.result.response.lease_id

    @property
    def path(self) -> str:
        """Of the API that it came from, for messages."""
        return self.key.resource[1]

    @property
    def expires_at(self) -> float:
        """When it is good no more, by itself or by its token."""
        return (
            min(self.lease_expires_at, self.result.token.expires_at)
            if self.id
            else self.lease_expires_at
        )

    @property
    def renew_at(self) -> float:
        """When something is to be done with it next."""
        own = self.lease_expires_at - self.ttl * RENEW_BELOW_SHARE
        return min(own, self.result.token.renew_at) if self.id else own

    def expiry(self, *, now: float, wall_time: float) -> Expiry:
        """Its end, as it is told of what is due to be replaced.

        Args:
            now: by the clock of the process.
            wall_time: seconds since 1970.
        """
        return Expiry(f"secret {self.path}", round(wall_time + self.expires_at - now), self.ttl)

    def next_action(self, now: float) -> LeaseAction:
        """What is to be done with it now."""
        grant = self.result.token
        due = self.lease_expires_at - now <= self.ttl * RENEW_BELOW_SHARE
        if not self.id:
            return LeaseAction.REPLACE if due else LeaseAction.KEEP
        if now >= self.expires_at:
            return LeaseAction.REPLACE
        token_due = now >= grant.renew_at
        if (due and not self.renewable) or (token_due and not grant.renewable):
            return LeaseAction.REPLACE
        return LeaseAction.RENEW if due or token_due else LeaseAction.KEEP


def ttl_of(response: VaultResponse, request: ReadRequest, *, wall_time: float) -> float | None:
    """Seconds that an answer is good for the pod that asked; None for what is just stored.

    Args:
        response: of the vault.
        request: what was asked.
        wall_time: seconds since 1970.
    """
    if response.lease_id:
        return response.lease_seconds or None
    if request.cacheable or response.data is None or "certificate" not in response.data:
        return None
    left = number_or_zero(response.data.get("expiration")) - wall_time
    return left if 0 < left < MAX_TTL_SECONDS else None
