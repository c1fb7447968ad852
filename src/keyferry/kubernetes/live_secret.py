"""A Secret that is in the store, and what of it is as Keyferry wrote it. [pure]"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyferry.formats.fields import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.objects import OwnerReference

FIELD_MANAGER = "keyferry"
"""By which the API knows what Keyferry applied."""
MANAGED_LABEL = "secrets-store.csi.k8s.io/managed"
CLASS_ANNOTATION = "keyferry.dev/class"
CLASS_VERSION_ANNOTATION = "keyferry.dev/class-version"
FETCHED_AT_ANNOTATION = "keyferry.dev/fetched-at"


@dataclass(frozen=True, slots=True)
class AppliedKeys:
    """The keys that are as Keyferry applied them: nobody has changed their values since."""

    data: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    annotations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """What matters of a Secret that is there.

    Attributes:
        uid: "" where there is no API.
        resource_version: its resourceVersion; "" where there is no API.
        type: of the Secret; it cannot be changed.
        immutable: neither can its data.
        data: in base64.
        owners: in their order.
        applied_keys: which of its keys are as Keyferry wrote them.
    """

    uid: str
    resource_version: str
    type: str
    immutable: bool
    data: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[OwnerReference, ...]
    applied_keys: AppliedKeys

    @property
    def managed(self) -> bool:
        """Whether Keyferry may change it: it has the label, or managedFields name Keyferry."""
        applied = bool(self.resource_version) and bool(self.applied_keys.data)
        return self.labels.get(MANAGED_LABEL) == "true" or applied

    @property
    def owner_class(self) -> str:
        """The class that has it; "" for none, and where somebody else wrote its name."""
        applied = CLASS_ANNOTATION in self.applied_keys.annotations
        return self.annotations.get(CLASS_ANNOTATION, "") if applied else ""


def parse_live_secret(
    manifest: Value, owners: tuple[OwnerReference, ...], *, from_api: bool
) -> LiveSecret:
    """Reads the manifest of a Secret; a field of a wrong type raises `FieldTypeError`."""
    root = Field(manifest)
    metadata = root["metadata"]
    return LiveSecret(
        uid=metadata["uid"].text(),
        resource_version=metadata["resourceVersion"].text(),
        type=root["type"].text(),
        immutable=root["immutable"].value is True,
        data=root["data"].text_mapping(),
        labels=metadata["labels"].text_mapping(),
        annotations=metadata["annotations"].text_mapping(),
        owners=owners,
        applied_keys=parse_applied_keys(manifest, from_api=from_api),
    )


def parse_applied_keys(manifest: Value, *, from_api: bool) -> AppliedKeys:
    """The keys that Keyferry applied and nobody has changed since.

    Args:
        manifest: of a Secret.
        from_api: whether to use `managedFields`; without an API, every key counts as applied.
    """
    root = Field(manifest)
    metadata = root["metadata"]
    if not from_api:
        return AppliedKeys(
            frozenset(root["data"].mapping()),
            frozenset(metadata["labels"].mapping()),
            frozenset(metadata["annotations"].mapping()),
        )
    for entry in metadata["managedFields"].items():
        if entry["manager"].text() == FIELD_MANAGER and entry["operation"].text() == "Apply":
            fields = entry["fieldsV1"]
            return AppliedKeys(
                _managed_keys(fields["f:data"]),
                _managed_keys(fields["f:metadata"]["f:labels"]),
                _managed_keys(fields["f:metadata"]["f:annotations"]),
            )
    return AppliedKeys()


def _managed_keys(fields: Field) -> frozenset[str]:
    return frozenset(key[2:] for key in fields.mapping() if key.startswith("f:"))
