"""What the CSIDriver object of a volume says: whether it exists, and which tokens kubelet sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import AuthorError, IdentityError, StoreError, excerpt
from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.api.resources import CsiDriverResource
from keyferry.kubernetes.names import DRIVER_NAME

if TYPE_CHECKING:
    from keyferry.kubernetes.api.client import KubeApi


async def unknown_driver(api: KubeApi, driver: str) -> AuthorError | None:
    """Return the error of a volume whose driver does not exist, if that may be read.

    For the default driver, a missing token says so.
    """
    if driver == DRIVER_NAME:
        return None
    try:
        found = await api.find_global(CsiDriverResource, driver)
    except StoreError:
        return None
    if found is not None:
        return None
    return AuthorError(
        f"this cluster has no CSI driver {excerpt(driver)}",
        f"Correct the driver of the volume. That of Keyferry is {DRIVER_NAME}, unless the chart"
        " value driverName is set.",
    )


async def unsent_audience(
    api: KubeApi, audiences: frozenset[str], driver: str
) -> IdentityError | None:
    """Return the error for an audience that kubelet does not send, if that is known."""
    if not audiences:
        return None
    try:
        manifest = await api.find_global(CsiDriverResource, driver)
        requests = Field(manifest)["spec"]["tokenRequests"].items() if manifest else ()
        sent = {each["audience"].text() for each in requests}
    except (StoreError, FieldTypeError):
        return None
    if manifest is None:
        return IdentityError(f"there is no CSIDriver {driver}", "Install Keyferry in this cluster.")
    if missing := sorted(audiences - sent):
        return IdentityError(
            f"kubelet sends no token for the audience {missing[0]}: it is not in"
            f" spec.tokenRequests of the CSIDriver {driver}",
            f"In the chart: tokenRequests[0].audience={missing[0]}.",
        )
    return None
