"""What is kept of a pod, read from its manifest. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.store.cluster import CsiVolume, PodFacts
from keyferry.store.fields import Field, FieldTypeError
from keyferry.store.manifest_codec import stored_owners

if TYPE_CHECKING:
    from keyferry.store.yaml_documents import Value


def pod_facts(manifest: Value) -> PodFacts | None:
    """The pod in `manifest`; None when it is none."""
    root = Field(manifest)
    metadata, spec = root["metadata"], root["spec"]
    try:
        return PodFacts(
            namespace=metadata["namespace"].text(),
            name=metadata["name"].text(),
            uid=metadata["uid"].text(),
            phase=root["status"]["phase"].text(),
            leaving=metadata["deletionTimestamp"].value is not None,
            service_account=spec["serviceAccountName"].text(),
            owners=stored_owners(metadata),
            volumes=tuple(
                _csi_volume(volume)
                for volume in spec["volumes"].items()
                if volume["csi"].value is not None
            ),
        )
    except FieldTypeError:
        return None


def _csi_volume(volume: Field) -> CsiVolume:
    csi = volume["csi"]
    return CsiVolume(
        name=volume["name"].text(),
        driver=csi["driver"].text(),
        attributes=csi["volumeAttributes"].texts(),
        secret_ref=csi["nodePublishSecretRef"]["name"].text(),
    )
