"""What is to be done about one Secret in the cluster. [pure]

The content is server-side applied; owners are added and foreign keys taken out by a merge. So nodes
that write the same Secret at the same time lose no owner of each other's: an apply would drop those
that it does not name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import StoreError
from keyferry.store.fields import Field, FieldTypeError
from keyferry.store.manifest_codec import (
    MANAGED_LABEL,
    merged_owners,
    secret_manifest,
    stored_secret,
    with_owners,
)

if TYPE_CHECKING:
    from keyferry.store.interface import OwnerReference, SecretManifest
    from keyferry.store.manifest_codec import Manifest


@dataclass(frozen=True, slots=True)
class PresentSecret:
    """What matters of a Secret that is in the cluster.

    Attributes:
        managed: it bears our label, so that it is ours to change.
        type: of the Secret; it cannot be changed.
        version: its resourceVersion.
        keys: of its data.
        owners: in their order.
    """

    managed: bool
    type: str
    version: str
    keys: frozenset[str]
    owners: tuple[OwnerReference, ...]


def present_secret(manifest: Manifest) -> PresentSecret:
    """Reads a Secret of the API.

    Raises:
        StoreError: it is not one.
    """
    root = Field(manifest)
    try:
        stored = stored_secret(manifest)
        return PresentSecret(
            managed=stored.managed,
            type=root["type"].text(),
            version=root["metadata"]["resourceVersion"].text(),
            keys=frozenset(root["data"].mapping()),
            owners=stored.owners,
        )
    except FieldTypeError as error:
        raise StoreError(
            f"the Kubernetes API gave a Secret that is none: {error.problem}",
            "Check what answers at its address.",
        ) from None


def require_managed(secret: SecretManifest, present: PresentSecret) -> None:
    """A Secret that somebody else made is left alone.

    Raises:
        StoreError: it does not bear our label.
    """
    if not present.managed:
        raise StoreError(
            f"Secret {secret.namespace}/{secret.name} was not made by Keyferry: "
            f"it is there without label {MANAGED_LABEL}",
            "Choose another secretName, or remove that Secret, or give it the label: true.",
        )


def applied_content(secret: SecretManifest, *, version: str | None) -> Manifest:
    """What is server-side applied: everything but the owners.

    Args:
        secret: as it is to be.
        version: the resourceVersion that it must have; None when it was not there.
    """
    manifest = secret_manifest(secret, ())
    if version is None:
        return manifest
    metadata = {**Field(manifest)["metadata"].mapping(), "resourceVersion": version}
    return {**manifest, "metadata": metadata}


def correction(
    secret: SecretManifest, applied: PresentSecret, *, earlier: tuple[OwnerReference, ...]
) -> Manifest | None:
    """The merge that is still missing after the apply; None when nothing is.

    Args:
        secret: as it is to be.
        applied: as it is after the apply, which leaves the keys of other managers.
        earlier: owners that it had before and keeps.
    """
    wanted = merged_owners(earlier, secret.owners)
    there = {(owner.name, owner.uid) for owner in applied.owners}
    owners = [owner for owner in wanted if (owner.name, owner.uid) not in there]
    foreign = sorted(applied.keys - secret.data.keys())
    patch = with_owners({}, owners) if owners else {}
    if foreign:
        patch["data"] = dict.fromkeys(foreign)
    return patch or None
