"""An existing Secret, and which of its keys are as Keyferry wrote them. [pure]"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.markings import DRIVER_MARKING, MANAGED_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.markings import Marking
    from keyferry.kubernetes.objects import OwnerReference

CLASS_ANNOTATION = "keyferry.dev/class"
CLASS_VERSION_ANNOTATION = "keyferry.dev/class-version"
FETCHED_AT_ANNOTATION = "keyferry.dev/fetched-at"
ADOPTED_ANNOTATION = "keyferry.dev/adopted-keys"
"""On a Secret that Keyferry did not create: what it wrote to it, as JSON."""
UNUSED_SINCE_ANNOTATION = "keyferry.dev/unused-since"
"""On a Secret that no pod uses any more: the time, for the grace period."""
KEYFERRY_ANNOTATIONS = frozenset(
    {
        CLASS_ANNOTATION,
        CLASS_VERSION_ANNOTATION,
        FETCHED_AT_ANNOTATION,
        ADOPTED_ANNOTATION,
        UNUSED_SINCE_ANNOTATION,
    }
)


class AppliedKeys(Struct, frozen=True):
    """Keys of a Secret that Keyferry wrote.

    In `LiveSecret.applied_keys`, those whose values nobody has changed since then.
    """

    data: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    annotations: frozenset[str] = frozenset()

    def to_json(self) -> str:
        """Return the value of `ADOPTED_ANNOTATION`."""
        groups = {"data": self.data, "labels": self.labels, "annotations": self.annotations}
        return json.dumps({name: sorted(keys) for name, keys in groups.items() if keys})

    @classmethod
    def from_json(cls, text: str) -> AppliedKeys:
        """Parse the value of `ADOPTED_ANNOTATION`; an invalid one counts as no key."""
        try:
            groups = Field(json.loads(text))
            return cls(
                *(
                    frozenset(item.text() for item in groups[name].items())
                    for name in ("data", "labels", "annotations")
                )
            )
        except (ValueError, RecursionError, FieldTypeError):
            return cls()


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """The fields of an existing Secret that Keyferry uses.

    Attributes:
        uid: "" without a Kubernetes API.
        resource_version: its resourceVersion; "" without a Kubernetes API.
        type: cannot be changed.
        immutable: whether its data cannot be changed either.
        data: values in base64.
        owners: in their order.
        applied_keys: the keys that are as Keyferry wrote them.
        former_managers: the field managers of earlier versions that still own fields.
        marking: of the command that reads it.
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
    former_managers: frozenset[str] = frozenset()
    marking: Marking = DRIVER_MARKING

    @property
    def managed(self) -> bool:
        """Whether Keyferry may change it: it has the label, or managedFields name Keyferry."""
        applied = bool(self.resource_version) and bool(self.applied_keys.data)
        return self.labels.get(self.marking.label) == self.marking.label_value or applied

    @property
    def adopted(self) -> bool:
        """Whether somebody else created it, and a SecretProviderClass adopted it."""
        return ADOPTED_ANNOTATION in self.annotations

    @property
    def unused_since(self) -> str:
        """The time of its mark as unused, as text; "" without a mark."""
        return self.annotations.get(UNUSED_SINCE_ANNOTATION, "")

    @property
    def adopted_keys(self) -> AppliedKeys:
        """Which keys of an adopted Secret come from Keyferry; the others are not changed."""
        return AppliedKeys.from_json(self.annotations.get(ADOPTED_ANNOTATION, ""))

    @property
    def owner_class(self) -> str:
        """The SecretProviderClass that owns it; "" for none, or if Keyferry did not write it."""
        applied = CLASS_ANNOTATION in self.applied_keys.annotations
        return self.annotations.get(CLASS_ANNOTATION, "") if applied else ""


def parse_live_secret(
    manifest: Value,
    owners: tuple[OwnerReference, ...],
    *,
    from_api: bool,
    marking: Marking = DRIVER_MARKING,
) -> LiveSecret:
    """Parse the manifest of a Secret.

    Args:
        manifest: the whole object.
        owners: its parsed owner references.
        from_api: see `parse_applied_keys`.
        marking: of the command that reads it.

    Raises:
        FieldTypeError: a field has the wrong type.
    """
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
        applied_keys=parse_applied_keys(manifest, from_api=from_api, marking=marking),
        former_managers=frozenset(
            entry["manager"].text()
            for entry in metadata["managedFields"].items()
            if entry["operation"].text() == "Apply"  # an apply cannot release another one
        )
        & marking.former_managers,
        marking=marking,
    )


def parse_applied_keys(
    manifest: Value, *, from_api: bool, marking: Marking = DRIVER_MARKING
) -> AppliedKeys:
    """Return the keys that Keyferry applied and nobody has changed since.

    Args:
        manifest: of a Secret.
        from_api: whether to use `managedFields`; without an API, every key counts as applied.
        marking: its field manager wrote them.
    """
    root = Field(manifest)
    metadata = root["metadata"]
    if not from_api:
        data, labels = frozenset(root["data"].mapping()), frozenset(metadata["labels"].mapping())
        annotations = metadata["annotations"].text_mapping()
        if ADOPTED_ANNOTATION in annotations:
            return _keys_of_adopted(annotations, data, labels)
        return AppliedKeys(data, labels, frozenset(annotations))
    for entry in metadata["managedFields"].items():
        manager, operation = entry["manager"].text(), entry["operation"].text()
        if (manager, operation) == (marking.field_manager, "Apply"):
            fields = entry["fieldsV1"]
            return AppliedKeys(
                _managed_keys(fields["f:data"]),
                _managed_keys(fields["f:metadata"]["f:labels"]),
                _managed_keys(fields["f:metadata"]["f:annotations"]),
            )
    return AppliedKeys()


def _keys_of_adopted(
    annotations: Mapping[str, str], data: frozenset[str], labels: frozenset[str]
) -> AppliedKeys:
    """Return the recorded keys that exist, and those that Keyferry always writes."""
    recorded = AppliedKeys.from_json(annotations[ADOPTED_ANNOTATION])
    return AppliedKeys(
        recorded.data & data,
        (recorded.labels | {MANAGED_LABEL}) & labels,
        (recorded.annotations | KEYFERRY_ANNOTATIONS) & annotations.keys(),
    )


def _managed_keys(fields: Field) -> frozenset[str]:
    return frozenset(key[2:] for key in fields.mapping() if key.startswith("f:"))
