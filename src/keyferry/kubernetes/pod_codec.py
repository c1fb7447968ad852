"""What is kept of a pod, read from its manifest. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.formats.fields import Field, FieldTypeError
from keyferry.kubernetes.cluster import CsiVolume, Pod
from keyferry.kubernetes.object_codec import parse_owners

if TYPE_CHECKING:
    from keyferry.formats.kubernetes_yaml import Value


def parse_pod(manifest: Value) -> Pod | None:
    """The pod in `manifest`; None when it is none."""
    root = Field(manifest)
    metadata, spec = root["metadata"], root["spec"]
    try:
        return Pod(
            namespace=metadata["namespace"].text(),
            name=metadata["name"].text(),
            uid=metadata["uid"].text(),
            phase=root["status"]["phase"].text(),
            terminating=metadata["deletionTimestamp"].value is not None,
            service_account=spec["serviceAccountName"].text(),
            owners=parse_owners(metadata),
            volumes=tuple(
                _parse_csi_volume(volume)
                for volume in spec["volumes"].items()
                if volume["csi"].value is not None
            ),
        )
    except FieldTypeError:
        return None


def _parse_csi_volume(volume: Field) -> CsiVolume:
    csi = volume["csi"]
    return CsiVolume(
        name=volume["name"].text(),
        driver=csi["driver"].text(),
        attributes=csi["volumeAttributes"].text_mapping(),
        secret_ref=csi["nodePublishSecretRef"]["name"].text(),
    )
