"""A secret that was made for one pod, how long it lasts, and what to do about that. [pure]

Upstream keeps none of it. A lease ends with the token that it was made with, so
both are renewed. What a role of the PKI engine issues has no lease, but an end all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from keyferry.expiry import Expiry
from keyferry.vault.answer import MAX_SECONDS, number_of
from keyferry.vault.login import TokenLogin

if TYPE_CHECKING:
    from keyferry.economy.key import FetchKey
    from keyferry.vault.answer import Answer
    from keyferry.vault.grant import Grant
    from keyferry.vault.login import Login
    from keyferry.vault.objects import ReadRequest
    from keyferry.vault.server import Server
    from keyferry.vault.session import Session

RENEW_BELOW = 1 / 3
"""What has less than this share of its life left is renewed, or replaced."""


class Step(Enum):
    """What is to be done with a secret that is held."""

    KEEP = "keep"
    RENEW = "renew"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Origin:
    """By whose login a secret came from where: what renewing and revoking it takes.

    Attributes:
        server: the vault.
        mount: the path of the auth method.
        mode: the kind of the login.
        own_token: whether the token came of a login of ours, so that it may be revoked.
    """

    server: Server
    mount: str
    mode: str
    own_token: bool


def origin_of(login: Login) -> Origin:
    """The origin of what is read by a login."""
    own = not isinstance(login.method, TokenLogin)
    return Origin(login.server, login.mount, login.mode, own_token=own)


@dataclass(frozen=True, slots=True)
class Issued:
    """A secret, and what it was read with.

    Attributes:
        answer: of the vault.
        grant: the token that was used.
        origin: where it came from.
        session: whose token it is; None where it is of a login of an earlier process.
        shared: whether other pods use the session too.
    """

    answer: Answer
    grant: Grant
    origin: Origin
    session: Session | None
    shared: bool

    def forget_token(self) -> None:
        """Let nobody else use the token any more."""
        if self.session is not None:
            self.session.forget(self.grant)


@dataclass(slots=True, eq=False)
class Lease:
    """A secret that is held for the volumes of one pod. Times are those of the process's clock.

    Attributes:
        key: what it is the answer to, and for which pod.
        issued: the secret.
        life: seconds that it was made for.
        expires: when it ends by itself.
        renewable: whether the vault would renew it still.
        volumes: the target paths that use it.
        retry_at: when a renewal that failed is tried again.
    """

    key: FetchKey
    issued: Issued
    life: float
    expires: float
    renewable: bool
    volumes: set[str] = field(default_factory=set)
    retry_at: float = 0.0

    @property
    def id(self) -> str:
        """Of the vault; "" for what only has an end."""
        return self.issued.answer.lease_id

    @property
    def path(self) -> str:
        """Of the API that it came from, for messages."""
        return self.key.item[1]

    @property
    def ends(self) -> float:
        """When it is good no more, by itself or by its token."""
        return min(self.expires, self.issued.grant.expires) if self.id else self.expires

    @property
    def due(self) -> float:
        """When something is to be done with it next."""
        own = self.expires - self.life * RENEW_BELOW
        return min(own, self.issued.grant.renew_at) if self.id else own

    def expiry(self, *, now: float, wall: float) -> Expiry:
        """Its end, as it is told of what is due to be replaced.

        Args:
            now: by the clock of the process.
            wall: seconds since 1970.
        """
        return Expiry(f"secret {self.path}", round(wall + self.ends - now), self.life)

    def step(self, now: float) -> Step:
        """What is to be done with it now."""
        grant = self.issued.grant
        due = self.expires - now <= self.life * RENEW_BELOW
        if not self.id:
            return Step.REPLACE if due else Step.KEEP
        if now >= self.ends:
            return Step.REPLACE
        token_due = now >= grant.renew_at
        if (due and not self.renewable) or (token_due and not grant.renewable):
            return Step.REPLACE
        return Step.RENEW if due or token_due else Step.KEEP


def lifetime(answer: Answer, request: ReadRequest, *, wall: float) -> float | None:
    """Seconds that an answer is good for the pod that asked; None for what is just stored.

    Args:
        answer: of the vault.
        request: what was asked.
        wall: seconds since 1970.
    """
    if answer.lease_id:
        return answer.seconds or None
    if request.shareable or answer.data is None or "certificate" not in answer.data:
        return None
    left = number_of(answer.data.get("expiration")) - wall
    return left if 0 < left < MAX_SECONDS else None
