"""Service-account tokens for pods that kubelet sent none for: who makes them, if anybody may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from keyferry.errors import IdentityError

if TYPE_CHECKING:
    from keyferry.providers.vault.auth.login import PodInfo
    from keyferry.providers.vault.product import Product


class TokenRequester(Protocol):
    """Makes tokens of service accounts, bound to pods."""

    async def request_token(self, pod: PodInfo, audience: str) -> str:
        """A token for the service account of `pod`.

        Args:
            pod: whom it is bound to.
            audience: whom it is for; "" for the API server's own.

        Raises:
            IdentityError: there is none to be had.
        """


class DisabledTokenRequester:
    """Makes none: this process has no right to the tokens of service accounts.

    Args:
        product: whose audience is the default one.
    """

    def __init__(self, product: Product) -> None:
        self._product = product

    async def request_token(self, pod: PodInfo, audience: str) -> str:
        """See `PodTokens.make`; always raises."""
        wanted = audience or self._product.audience
        raise IdentityError(
            f"kubelet sent no service-account token for the audience '{wanted}'",
            f"Add the audience to spec.tokenRequests of the CSIDriver object (of the chart: "
            f"tokenRequests: [{{audience: {wanted}}}]), or set audience of the class to one that "
            "is there; for keyferry mount, --service-account-tokens has them.",
        )
