"""A token that a vault has granted, and what came of asking for one. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.providers.vault.http.response import (
    MalformedResponseError,
    VaultResponse,
    ttl_or_zero,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.go_json import Json

NEVER = float("inf")
_RENEW_AFTER_SHARE = 2 / 3
"""What ends is renewed once this share of its life is over."""


@dataclass(slots=True, eq=False)
class VaultToken:
    """A token of a vault and how long it lasts. Times are those of the process's clock.

    Attributes:
        value: it.
        ttl: seconds that it was granted for; 0 for ever.
        issued_at: when it was granted, or last renewed.
        renewable: whether the vault would renew it.
        from_kubernetes_auth: whether the login was by Kubernetes auth, which knows service accounts
            and no pods.
        lease_count: how many secrets that are held end with it.
    """

    value: str = field(repr=False)
    ttl: float
    issued_at: float
    renewable: bool
    from_kubernetes_auth: bool = False
    lease_count: int = 0

    @property
    def expires_at(self) -> float:
        """When it ends."""
        return self.issued_at + self.ttl if self.ttl else NEVER

    @property
    def renew_at(self) -> float:
        """From when on it should be renewed."""
        return self.issued_at + self.ttl * _RENEW_AFTER_SHARE if self.ttl else NEVER


def parse_token(response: VaultResponse, now: float) -> VaultToken:
    """The token in the answer of a login.

    Raises:
        BadAnswerError: there is none in it.
    """
    auth = response.auth
    if auth is None:
        raise MalformedResponseError(
            "it is wrapped" if response.wrap_info is not None else "it holds no token"
        )
    token = auth.get("client_token")
    if type(token) is not str or not is_valid_token(token):
        wants_mfa = isinstance(auth.get("mfa_requirement"), dict)
        raise MalformedResponseError(
            "it wants a second factor, which no pod has" if wants_mfa else "it holds no token"
        )
    return VaultToken(
        value=token,
        ttl=ttl_or_zero(auth.get("lease_duration")),
        issued_at=now,
        renewable=auth.get("renewable") is True,
        from_kubernetes_auth="service_account_uid" in _metadata(auth),
    )


def is_valid_token(text: str) -> bool:
    """Whether it can be sent as a token: a header holds no other characters."""
    return 0 < len(text) <= 8192 and text.isascii() and text.isprintable() and " " not in text


def _metadata(auth: Mapping[str, Json]) -> Mapping[str, Json]:
    metadata = auth.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
