"""A token that a vault has granted, and what came of asking for one. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.vault.answer import Answer, BadAnswerError, seconds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.go_json import Json

NEVER = float("inf")
_RENEW_AFTER = 2 / 3
"""What ends is renewed once this share of its life is over."""


@dataclass(slots=True, eq=False)
class Grant:
    """A token of a vault and how long it lasts. Times are those of the process's clock.

    Attributes:
        token: it.
        life: seconds that it was granted for; 0 for ever.
        since: when it was granted, or last renewed.
        renewable: whether the vault would renew it.
        kubernetes: whether the login was by Kubernetes auth, which knows service accounts and no
            pods.
        leases: how many secrets that are held end with it.
    """

    token: str = field(repr=False)
    life: float
    since: float
    renewable: bool
    kubernetes: bool = False
    leases: int = 0

    @property
    def expires(self) -> float:
        """When it ends."""
        return self.since + self.life if self.life else NEVER

    @property
    def renew_at(self) -> float:
        """From when on it should be renewed."""
        return self.since + self.life * _RENEW_AFTER if self.life else NEVER


def read_grant(answer: Answer, now: float) -> Grant:
    """The token in the answer of a login.

    Raises:
        BadAnswerError: there is none in it.
    """
    auth = answer.auth
    if auth is None:
        raise BadAnswerError(
            "it is wrapped" if answer.wrap_info is not None else "it holds no token"
        )
    token = auth.get("client_token")
    if type(token) is not str or not is_token(token):
        wants_mfa = isinstance(auth.get("mfa_requirement"), dict)
        raise BadAnswerError(
            "it wants a second factor, which no pod has" if wants_mfa else "it holds no token"
        )
    return Grant(
        token=token,
        life=seconds_of(auth.get("lease_duration")),
        since=now,
        renewable=auth.get("renewable") is True,
        kubernetes="service_account_uid" in _metadata(auth),
    )


def is_token(text: str) -> bool:
    """Whether it can be sent as a token: a header holds no other characters."""
    return 0 < len(text) <= 8192 and text.isascii() and text.isprintable() and " " not in text


def _metadata(auth: Mapping[str, Json]) -> Mapping[str, Json]:
    metadata = auth.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
