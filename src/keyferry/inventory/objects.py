"""The versions that volumes and environments of pods have, from objects of the Kubernetes API.

Invalid objects, which only somebody else can have written, are skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct, field

from keyferry.errors import ClassInvalidError
from keyferry.formats.fields import Field, FieldTypeError, get, items, parse_time, text
from keyferry.inventory.users import CURRENT, NOT_MOUNTED, OLD, environment_secrets
from keyferry.kubernetes.class_codec import parse_class
from keyferry.kubernetes.live_secret import FETCHED_AT_ANNOTATION
from keyferry.kubernetes.names import DRIVER_NAME
from keyferry.kubernetes.object_codec import parse_pod_status
from keyferry.providers.known_fields.attributes import SPC_ATTRIBUTE
from keyferry.providers.registry import files_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.objects import PodStatus, SecretProviderClass

_PENDING = "Pending"


class ObjectRow(Struct, frozen=True):
    """One object of one volume.

    Attributes:
        namespace: of the pod.
        pod: its name.
        class_name: the SecretProviderClass.
        node: of the pod; "" if unknown.
        object: its id, such as `secret/db-password`.
        version: in the volume.
        environment: `current` or `old` if a container has it as an environment variable from a
            Secret; "" if none has, or if the Secrets could not be read.
        changed_at: when the Secret changed that an old environment lacks; None otherwise.
        refreshed_at: when the volume was refreshed; None if the driver does not say so.
        problem: why the last refresh failed, or that the volume is not mounted; "" after success.
        expires_at: when the object expires; None if it does not, or if that is unknown.
        mounted_at: when the volume was first recorded; None if that is unknown.
    """

    namespace: str
    pod: str
    class_name: str
    node: str
    object: str
    version: str
    environment: str = ""
    changed_at: datetime | None = None
    refreshed_at: datetime | None = None
    problem: str = ""
    expires_at: datetime | None = None
    mounted_at: datetime | None = None


class ClusterObjects(Struct, frozen=True):
    """Objects of one or all namespaces, as the Kubernetes API returns them.

    Attributes:
        pod_statuses: the SecretProviderClassPodStatuses.
        classes: the SecretProviderClasses.
        pods: the pods.
        secrets: metadata of the Secrets that Keyferry manages; None if they cannot be read.
    """

    pod_statuses: tuple[Manifest, ...]
    classes: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    secrets: tuple[Manifest, ...] | None = None


class Surroundings(Struct, frozen=True):
    """What the rows of a volume need in addition to its pod status, by namespace and name.

    Attributes:
        classes: the SecretProviderClasses.
        pods: the pods.
        changed: when the Secrets changed.
    """

    classes: Mapping[tuple[str, str], SecretProviderClass] = field(default_factory=dict)
    pods: Mapping[tuple[str, str], Manifest] = field(default_factory=dict)
    changed: Mapping[tuple[str, str], datetime | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        classes: Iterable[Manifest],
        pods: Iterable[Manifest],
        secrets: Iterable[Manifest] | None,
    ) -> Surroundings:
        """Return what these objects say; see `ClusterObjects`."""
        return cls(
            _classes(classes),
            {_key(pod): pod for pod in pods},
            {_key(secret): _changed_at(secret) for secret in secrets or ()},
        )


def object_rows(objects: ClusterObjects) -> list[ObjectRow]:
    """Return a row for each object of each volume, sorted by namespace, pod, class and object.

    A volume that is not mounted yet has one row, without an object.
    """
    known = Surroundings.of(objects.classes, objects.pods, objects.secrets)
    rows = [row for manifest in objects.pod_statuses for row in volume_rows(manifest, known)]
    rows += _unmounted_rows(objects.pods, {_volume_key(each) for each in objects.pod_statuses})
    return sorted(rows, key=lambda row: (row.namespace, row.pod, row.class_name, row.object))


def volume_rows(manifest: Manifest, known: Surroundings) -> Iterator[ObjectRow]:
    """Yield a row for each object of one volume.

    Args:
        manifest: the pod status.
        known: what it refers to.
    """
    try:
        status = parse_pod_status(manifest)
        refreshed_at, problem = _refresh(Field(manifest)["status"])
    except FieldTypeError:
        return
    pod = known.pods.get((status.namespace, status.pod.name))
    spc = known.classes.get((status.namespace, status.class_name))
    started = environment_secrets(pod) if pod is not None else {}
    sources = _secrets_by_object(spc) if spc is not None and started else {}
    expiries = dict(status.expiries)
    mounted_at = parse_time(text(get(manifest, "metadata", "creationTimestamp")))
    for version in status.objects:
        names = next((sources[key] for key in sources if _is_object(version.id, key)), frozenset())
        environment, changed_at = _environment(status, names, started, known.changed)
        yield ObjectRow(
            status.namespace,
            status.pod.name,
            status.class_name,
            status.node,
            version.id,
            version.version,
            environment,
            changed_at,
            refreshed_at,
            problem,
            _moment(expiries.get(version.id)),
            mounted_at,
        )


def _unmounted_rows(
    pods: Iterable[Manifest], mounted: Collection[tuple[str, str, str]]
) -> Iterator[ObjectRow]:
    """Yield a row for each volume of a pod that waits for it.

    Args:
        pods: the pods.
        mounted: namespace, pod and SecretProviderClass of each volume that has a pod status.
    """
    for pod in pods:
        if text(get(pod, "status", "phase")) != _PENDING:
            continue
        namespace, name = _key(pod)
        node = text(get(pod, "spec", "nodeName"))
        for volume in items(get(pod, "spec", "volumes")):
            if get(volume, "csi", "driver") != DRIVER_NAME:
                continue
            class_name = text(get(volume, "csi", "volumeAttributes", SPC_ATTRIBUTE))
            if (namespace, name, class_name) not in mounted:
                yield ObjectRow(namespace, name, class_name, node, "", "", problem=NOT_MOUNTED)


def _volume_key(manifest: Manifest) -> tuple[str, str, str]:
    status = get(manifest, "status")
    pod, class_name = (text(get(status, key)) for key in ("podName", "secretProviderClassName"))
    return _key(manifest)[0], pod, class_name


def _moment(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _environment(
    status: PodStatus,
    names: frozenset[str],
    started: Mapping[str, datetime | None],
    changed: Mapping[tuple[str, str], datetime | None],
) -> tuple[str, datetime | None]:
    """Return whether the environment of a container is older than a Secret, and since when."""
    compared = [
        (start, at)
        for name in names & started.keys()
        if (start := started[name]) and (at := changed.get((status.namespace, name)))
    ]
    old = [at for start, at in compared if start < at]
    if old:
        return OLD, max(old)
    return (CURRENT, None) if compared else ("", None)


def _secrets_by_object(spc: SecretProviderClass) -> dict[str, frozenset[str]]:
    """Return the Secrets that hold an object, by its id without a vault."""
    found: dict[str, set[str]] = {}
    for file in files_of(spc) or ():
        names = {
            secret.name
            for secret in spc.secret_objects
            for entry in secret.data
            if entry.object_name == file.path or entry.object_name in file.aliases
        }
        for key in (_object_id(file.object_name), file.path):
            found.setdefault(key, set()).update(names)
    return {key: frozenset(names) for key, names in found.items() if names}


def _object_id(description: str) -> str:
    """Return the id of an object that messages call `.crt of secret web version 1`."""
    name = description.partition(",")[0].rpartition(" of ")[2].partition(" version ")[0]
    return name.replace(" ", "/", 1)


def _is_object(id_: str, key: str) -> bool:
    """Return whether an id of a pod status means an object, in any vault and history."""
    own, _, index = id_.rpartition("/")
    ids = (id_, own) if index.isdecimal() else (id_,)
    return any(each == key or each.endswith(f"/{key}") for each in ids)


def refresh_problem(manifest: Manifest) -> str:
    """Return why the last refresh of the volume of a pod status failed; "" after success.

    Raises:
        FieldTypeError: a field has the wrong type.
    """
    return _refresh(Field(manifest)["status"])[1]


def _refresh(status: Field) -> tuple[datetime | None, str]:
    problem = ""
    for condition in status["conditions"].items():
        if condition["type"].text() == "Refreshed" and condition["status"].text() == "False":
            problem = condition["message"].text() or condition["reason"].text()
    return parse_time(status["lastRefreshTime"].text()), problem


def _changed_at(secret: Manifest) -> datetime | None:
    try:
        annotations = Field(secret)["metadata"]["annotations"].text_mapping()
    except FieldTypeError:
        return None
    return parse_time(annotations.get(FETCHED_AT_ANNOTATION, ""))


def _classes(manifests: Iterable[Manifest]) -> dict[tuple[str, str], SecretProviderClass]:
    found = {}
    for manifest in manifests:
        try:
            spc = parse_class(manifest, default_namespace="")
        except ClassInvalidError:
            continue
        found[spc.namespace, spc.name] = spc
    return found


def _key(manifest: Manifest) -> tuple[str, str]:
    metadata = manifest.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return str(named.get("namespace") or ""), str(named.get("name") or "")
