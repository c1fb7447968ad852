"""Converts Secrets, pod statuses, events and pods from and to manifests. [pure]

Parsing raises `FieldTypeError` for a wrong type: somebody may have changed what Keyferry wrote.

Source: docs/reference/upstream-driver.md#secretproviderclasspodstatus
Source: docs/reference/upstream-driver.md#secret-writes
Source: docs/reference/upstream-driver.md#events
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from keyferry.content import ObjectVersion
from keyferry.formats.fields import Field, FieldTypeError, parse_time
from keyferry.formats.kubernetes_yaml import Value
from keyferry.kubernetes.class_fields import ANNOTATION_PREFIX, REFRESH_ANNOTATION
from keyferry.kubernetes.live_secret import parse_live_secret
from keyferry.kubernetes.markings import DRIVER_MARKING
from keyferry.kubernetes.objects import (
    MAX_MESSAGE,
    ClassRef,
    CsiVolume,
    DesiredSecret,
    Event,
    EventType,
    ObjectRef,
    OwnerReference,
    Pod,
    PodRef,
    PodStatus,
    RefreshCondition,
    RefreshMarks,
)
from keyferry.kubernetes.secret_plan import desired_annotations, desired_data
from keyferry.telemetry.help_links import NO_LINKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from keyferry.kubernetes.live_secret import LiveSecret
    from keyferry.kubernetes.markings import Marking
    from keyferry.telemetry.help_links import HelpLinks

Manifest = dict[str, Value]

NODE_LABEL = "internal.secrets-store.csi.k8s.io/node-name"
ANSWERED_CLASS = f"{ANNOTATION_PREFIX}refreshed-for-class"
"""On a pod status: the mark of the SecretProviderClass that the last refresh answered."""
ANSWERED_POD = f"{ANNOTATION_PREFIX}refreshed-for-pod"
"""On a pod status: the mark of the pod that the last refresh answered."""
EXPIRIES = f"{ANNOTATION_PREFIX}expires"
"""On a pod status: JSON with the ids of objects that expire, and when.

An annotation, because the API refuses an apply with a field that the CRDs of upstream lack.
"""
POD_STATUS_API_VERSION = "secrets-store.csi.x-k8s.io/v1"
REFRESHED_CONDITION = "Refreshed"
POD_STATUS_KIND = "SecretProviderClassPodStatus"
EVENT_COMPONENT = "csi-secrets-store-controller"

_INVOLVED_KINDS: dict[type[PodRef | ClassRef], tuple[str, str]] = {
    PodRef: ("v1", "Pod"),
    ClassRef: ("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass"),
}
_UID_NAMESPACE = uuid.UUID("5b1f4c55-3a3d-4d3a-9a0c-6c1a2f0d8e11")


# --- Secrets --------------------------------------------------------------------------------------


def secret_manifest(secret: DesiredSecret, owners: Iterable[OwnerReference]) -> Manifest:
    """Return the manifest of `secret` with `owners` instead of its own.

    An adopted Secret keeps its type, so that field stays with the client that created it.
    """
    metadata: Manifest = {
        "name": secret.name,
        "namespace": secret.namespace,
        "labels": dict[str, Value](secret.all_labels),
    }
    if annotations := desired_annotations(secret):
        metadata["annotations"] = dict(annotations)
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        **({} if secret.adopted else {"type": secret.type}),
        "data": dict[str, Value](desired_data(secret)),
    }
    return with_owners(manifest, owners)


def parse_secret(
    manifest: Value, *, from_api: bool, marking: Marking = DRIVER_MARKING
) -> LiveSecret:
    """Parse a Secret; see `parse_live_secret`."""
    owners = parse_owners(Field(manifest)["metadata"])
    return parse_live_secret(manifest, owners, from_api=from_api, marking=marking)


def merge_owners(
    existing: Iterable[OwnerReference], added: Iterable[OwnerReference]
) -> tuple[OwnerReference, ...]:
    """Return `existing`, then those of `added` with another name or uid."""
    merged = list(existing)
    known = {(owner.name, owner.uid) for owner in merged}
    merged += [owner for owner in added if (owner.name, owner.uid) not in known]
    return tuple(merged)


def with_owners(manifest: Value, owners: Iterable[OwnerReference]) -> Manifest:
    """Return `manifest` with exactly these owners."""
    references: list[Value] = [
        {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
        for owner in owners
    ]
    root = Field(manifest)
    metadata = {k: v for k, v in root["metadata"].mapping().items() if k != "ownerReferences"}
    if references:
        metadata["ownerReferences"] = references
    return {**root.mapping(), "metadata": metadata}


def parse_owners(metadata: Field) -> tuple[OwnerReference, ...]:
    """Return the owner references of the metadata of an object."""
    return tuple(
        OwnerReference(
            api_version=owner["apiVersion"].text(),
            kind=owner["kind"].text(),
            name=owner["name"].text(),
            uid=owner["uid"].text(),
        )
        for owner in metadata["ownerReferences"].items()
    )


# --- pod statuses ---------------------------------------------------------------------------------


def pod_status_uid(status: PodStatus) -> str:
    """Return a uid that depends only on the pod and the name of the pod status."""
    return str(uuid.uuid5(_UID_NAMESPACE, f"{status.namespace}/{status.name}/{status.pod.uid}"))


def pod_status_owner(status: PodStatus) -> OwnerReference:
    """Return the owner reference from a Secret to `status`."""
    return OwnerReference(
        POD_STATUS_API_VERSION, POD_STATUS_KIND, status.name, pod_status_uid(status)
    )


def pod_status_manifest(status: PodStatus, labels: Mapping[str, str]) -> Manifest:
    """Return the manifest of `status`; existing `labels` of others are kept."""
    pod = OwnerReference("v1", "Pod", status.pod.name, status.pod.uid)
    metadata: Manifest = {
        "name": status.name,
        "namespace": status.namespace,
        "labels": {**labels, NODE_LABEL: status.node},
    }
    if annotations := {key: text for key, text in _annotations_of(status).items() if text}:
        metadata["annotations"] = dict[str, Value](annotations)
    manifest: Manifest = {
        "apiVersion": POD_STATUS_API_VERSION,
        "kind": POD_STATUS_KIND,
        "metadata": metadata,
        "status": {
            "podName": status.pod.name,
            "secretProviderClassName": status.class_name,
            "mounted": True,
            "targetPath": status.target_path,
            "objects": [_object_manifest(version) for version in status.objects],
            **(refresh_status_manifest(status.refresh) if status.refresh else {}),
        },
    }
    return with_owners(manifest, (pod,))


def pod_status_patch(status: PodStatus) -> Manifest:
    """Return the merge patch that makes an existing pod status that of `status`."""
    manifest = pod_status_manifest(status, {})
    annotations: Manifest = {key: text or None for key, text in _annotations_of(status).items()}
    metadata: Manifest = {**Field(manifest)["metadata"].mapping(), "annotations": annotations}
    return {**manifest, "metadata": metadata}


def _annotations_of(status: PodStatus) -> dict[str, str]:
    """Return all annotations of Keyferry; "" for those that a pod status does not have."""
    return {
        ANSWERED_CLASS: status.refresh_marks.of_class,
        ANSWERED_POD: status.refresh_marks.of_pod,
        EXPIRIES: _expiries_text(status),
    }


def _expiries_text(status: PodStatus) -> str:
    if not status.expiries:
        return ""
    times = {id_: _format_time(datetime.fromtimestamp(at, UTC)) for id_, at in status.expiries}
    return msgspec.json.encode(times).decode()


def _parse_expiries(text: str) -> tuple[tuple[str, int], ...]:
    """Return the expiries in the annotation of a pod status; none if somebody else wrote it."""
    try:
        times = msgspec.json.decode(text or "{}", type=dict[str, datetime])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ()
    return tuple(
        sorted((id_, int(at.timestamp())) for id_, at in times.items() if at.tzinfo is not None)
    )


def refresh_status_manifest(refresh: RefreshCondition) -> Manifest:
    """Return the fields of Keyferry in the status of a pod status."""
    condition: Manifest = {
        "type": REFRESHED_CONDITION,
        "status": "True" if refresh.ok else "False",
        "reason": refresh.reason,
        "message": refresh.message or refresh.note,
        "lastTransitionTime": _format_time(refresh.transitioned_at),
    }
    refreshed: Manifest = {}
    if refresh.refreshed_at is not None:
        refreshed = {"lastRefreshTime": _format_time(refresh.refreshed_at)}
    return {**refreshed, "conditions": [condition]}


def with_refresh_status(manifest: Manifest, refresh_status: Manifest) -> Manifest:
    """Return the pod status with the refresh status added."""
    return {**manifest, "status": {**Field(manifest)["status"].mapping(), **refresh_status}}


def refresh_status_of(manifest: Value) -> Manifest:
    """Return the fields that `with_refresh_status` added to a manifest."""
    status = Field(manifest)["status"].mapping()
    return {key: status[key] for key in ("lastRefreshTime", "conditions") if key in status}


def _object_manifest(version: ObjectVersion) -> Value:
    # Go omits an empty text.
    return {"id": version.id, **({"version": version.version} if version.version else {})}


def parse_labels(manifest: Value) -> dict[str, str]:
    """Return the labels of an object."""
    return Field(manifest)["metadata"]["labels"].text_mapping()


def parse_pod_status(manifest: Value) -> PodStatus:
    """Parse a manifest of `pod_status_manifest`."""
    metadata, status = Field(manifest)["metadata"], Field(manifest)["status"]
    namespace, pod_name = metadata["namespace"].text(), status["podName"].text()
    pod_uids = [o.uid for o in parse_owners(metadata) if o.kind == "Pod" and o.name == pod_name]
    return PodStatus(
        namespace=namespace,
        name=metadata["name"].text(),
        pod=PodRef(namespace, pod_name, pod_uids[0] if pod_uids else ""),
        class_name=status["secretProviderClassName"].text(),
        target_path=status["targetPath"].text(),
        node=metadata["labels"].text_mapping().get(NODE_LABEL, ""),
        objects=tuple(
            ObjectVersion(item["id"].text(), item["version"].text())
            for item in status["objects"].items()
        ),
        refresh_marks=RefreshMarks(
            metadata["annotations"][ANSWERED_CLASS].text(),
            metadata["annotations"][ANSWERED_POD].text(),
        ),
        expiries=_parse_expiries(metadata["annotations"][EXPIRIES].text()),
        refresh=_parse_condition(status),
        uid=metadata["uid"].text(),
    )


def _parse_condition(status: Field) -> RefreshCondition | None:
    """Return the `Refreshed` condition; None without one that Keyferry wrote."""
    for condition in status["conditions"].items():
        if condition["type"].text() == REFRESHED_CONDITION:
            transitioned_at = parse_time(condition["lastTransitionTime"].text())
            if transitioned_at is None:
                return None
            is_ok = condition["status"].text() == "True"
            text = condition["message"].text()
            return RefreshCondition(
                refreshed_at=parse_time(status["lastRefreshTime"].text()),
                transitioned_at=transitioned_at,
                reason=condition["reason"].text(),
                message="" if is_ok else text,
                note=text if is_ok else "",
            )
    return None


# --- events ---------------------------------------------------------------------------------------


def event_manifest(
    event: Event, name: str, *, now: datetime, previous: Value, links: HelpLinks = NO_LINKS
) -> Manifest:
    """Return the manifest of an event, with a count higher by one than in `previous`.

    Args:
        event: what happened.
        name: of the event object.
        now: with a time zone.
        previous: the last written manifest; None for the first occurrence.
        links: add a link to the message of a warning.
    """
    message = event.message
    if event.type is EventType.WARNING:
        message = links.linked(message, reason=event.reason, limit=MAX_MESSAGE)
    stamp = _format_time(now)
    about = event.involved_object
    if isinstance(about, ObjectRef):
        api_version, kind = about.api_version, about.kind
    else:
        api_version, kind = _INVOLVED_KINDS[type(about)]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": api_version,
            "kind": kind,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
        },
        "type": event.type.value,
        "reason": event.reason,
        "message": message,
        "source": {"component": EVENT_COMPONENT},
        "count": Field(previous)["count"].number() + 1,
        "firstTimestamp": Field(previous)["firstTimestamp"].text() or stamp,
        "lastTimestamp": stamp,
    }


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- pods -----------------------------------------------------------------------------------------


def parse_pod(manifest: Value) -> Pod | None:
    """Parse a pod; return None if it is invalid."""
    root = Field(manifest)
    metadata, spec = root["metadata"], root["spec"]
    try:
        return Pod(
            namespace=metadata["namespace"].text(),
            name=metadata["name"].text(),
            uid=metadata["uid"].text(),
            phase=root["status"]["phase"].text(),
            terminating=metadata["deletionTimestamp"].value is not None,
            refresh_mark=metadata["annotations"][REFRESH_ANNOTATION].text(),
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
