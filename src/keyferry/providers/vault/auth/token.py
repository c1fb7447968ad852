"""A vault token and its lifetime, parsed from the response to a login. [pure]"""

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
"""The time at which a token without an expiry expires."""
_RENEW_AFTER_SHARE = 2 / 3
"""Share of its lifetime after which a token is renewed."""


@dataclass(slots=True, eq=False)
class VaultToken:
    """A token of a vault. Times are in seconds of the monotonic clock.

    Attributes:
        value: the token itself.
        ttl: lifetime in seconds; 0 for unlimited.
        issued_at: when the token was issued or last renewed.
        renewable: whether the vault would renew the token.
        from_kubernetes_auth: whether the login used Kubernetes auth, which distinguishes service
            accounts but not pods.
        lease_count: number of tracked leases that expire with the token.
    """

    value: str = field(repr=False)
    ttl: float
    issued_at: float
    renewable: bool
    from_kubernetes_auth: bool = False
    lease_count: int = 0

    @property
    def expires_at(self) -> float:
        """When the token expires."""
        return self.issued_at + self.ttl if self.ttl else NEVER

    @property
    def renew_at(self) -> float:
        """When the token is due for renewal."""
        return self.issued_at + self.ttl * _RENEW_AFTER_SHARE if self.ttl else NEVER


def parse_token(response: VaultResponse, now: float) -> VaultToken:
    """Return the token from the response to a login.

    Args:
        response: response of the vault.
        now: current time in seconds of the monotonic clock.

    Raises:
        MalformedResponseError: the response has no usable token.
    """
    auth = response.auth
    if auth is None:
        raise MalformedResponseError(
            "it is wrapped" if response.wrap_info is not None else "it contains no token"
        )
    token = auth.get("client_token")
    if type(token) is not str or not is_valid_token(token):
        wants_mfa = isinstance(auth.get("mfa_requirement"), dict)
        raise MalformedResponseError(
            "it requires a second factor, which a pod cannot provide"
            if wants_mfa
            else "it contains no token"
        )
    return VaultToken(
        value=token,
        ttl=ttl_or_zero(auth.get("lease_duration")),
        issued_at=now,
        renewable=auth.get("renewable") is True,
        from_kubernetes_auth="service_account_uid" in _metadata(auth),
    )


def is_valid_token(text: str) -> bool:
    """Return whether `text` can be a token: whether it is valid in an HTTP header."""
    return 0 < len(text) <= 8192 and text.isascii() and text.isprintable() and " " not in text


def _metadata(auth: Mapping[str, Json]) -> Mapping[str, Json]:
    metadata = auth.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
