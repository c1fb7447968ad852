"""The objects of a small Kubernetes API server: server-side apply, field managers and errors.

Objects are stored as one value per path, because field managers own paths. An item of
ownerReferences is one value under its uid; any other list is one value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kube_selection import ListQuery

KeyPath = tuple[str, ...]
FlatObject = dict[KeyPath, Any]
ObjectKey = tuple[str, str, str]
"""The plural, namespace and name of an object."""
OWNERS = ("metadata", "ownerReferences")
RESOURCE_VERSION = ("metadata", "resourceVersion")
UID = ("metadata", "uid")
IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), UID}
"""What names an object; no manager owns it."""
SERVER_FIELDS = {
    ("metadata", name) for name in ("resourceVersion", "uid", "creationTimestamp", "generation")
}


CREATED_AT = "2030-01-01T12:00:00Z"
GKE_SYNCS = "secretsyncs.secret-sync.gke.io"
"""The SecretSyncs of GKE, as a key: their plural is that of upstream."""
CUSTOM_RESOURCES = {
    "secretproviderclasses": "SecretProviderClass",
    "secretproviderclasspodstatuses": "SecretProviderClassPodStatus",
    "secretsyncs": "SecretSync",
    GKE_SYNCS: "SecretSync",
}
CUSTOM_API_VERSION = "secrets-store.csi.x-k8s.io/v1"
API_VERSIONS = {
    **dict.fromkeys(CUSTOM_RESOURCES, CUSTOM_API_VERSION),
    "secretsyncs": "secret-sync.x-k8s.io/v1alpha1",
    GKE_SYNCS: "secret-sync.gke.io/v1",
    "leases": "coordination.k8s.io/v1",
    "daemonsets": "apps/v1",
    "deployments": "apps/v1",
    "csidrivers": "storage.k8s.io/v1",
}
"""Those of other resources are v1."""
WITH_STATUS = {"secretsyncs", GKE_SYNCS}
"""Resources whose status is a subresource."""
DEFAULT_STATUS = {
    "conditions": [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for the controller.",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]
}
"""What the CRD of SecretSyncs sets by default."""
KINDS = {
    "events": "Event",
    "nodes": "Node",
    "pods": "Pod",
    "replicasets": "ReplicaSet",
    "secrets": "Secret",
    **CUSTOM_RESOURCES,
    "leases": "Lease",
    "serviceaccounts": "ServiceAccount",
    "ingresses": "Ingress",
    "daemonsets": "DaemonSet",
    "deployments": "Deployment",
    "csidrivers": "CSIDriver",
}


class StatusError(Exception):
    """An error response.

    Args:
        code: the HTTP status.
        reason: the documented reason.
        message: the text of the server.
        fields: invalid fields.
        causes: further causes.
        retry_after: seconds after which the client shall try again; 0 to leave them out.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str = "",
        fields: tuple[str, ...] = (),
        causes: tuple[Mapping[str, str], ...] = (),
        retry_after: int = 0,
    ):
        super().__init__(code, reason)
        listed = [{"reason": "FieldValueInvalid", "field": name} for name in fields] + [*causes]
        self.code = code
        self.headers = {"Retry-After": str(retry_after)} if retry_after else {}
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message or reason,
        }
        if listed:  # the server omits what is empty
            self.status["details"] = {"causes": listed}


@dataclass
class StoredObject:
    """One object: its values and their field managers."""

    values: FlatObject
    owned_paths: dict[str, set[KeyPath]] = field(default_factory=dict)


class ObjectTracker:
    """All objects, and the history since `compacted_version`."""

    def __init__(self) -> None:
        self.stored: dict[ObjectKey, StoredObject] = {}
        self.history: list[tuple[int, str, ObjectKey, dict[str, Any], dict[str, Any] | None]] = []
        self.compacted_version = 0
        self.changed = asyncio.Event()
        self._version = 100
        self._uids = 0

    @property
    def version(self) -> int:
        """Return the current resource version."""
        return self._version

    def manifest(self, key: ObjectKey) -> dict[str, Any]:
        """Return the object as it is served."""
        if key not in self.stored:
            raise StatusError(404, "NotFound", f'{qualified(key[0])} "{key[2]}" not found')
        return self.with_managed_fields(self.stored[key])

    def with_managed_fields(self, stored: StoredObject) -> dict[str, Any]:
        """Return the object with its managedFields."""
        manifest = unflatten(stored.values)
        manifest["metadata"]["managedFields"] = [
            managed_fields(manager, paths) for manager, paths in stored.owned_paths.items() if paths
        ]
        return manifest

    def create(self, key: ObjectKey, manifest: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Create an object (POST)."""
        if key in self.stored:
            text = f'{qualified(key[0])} "{key[2]}" already exists'
            raise StatusError(409, "AlreadyExists", text)
        return self._save(key, flatten(manifest), {f"{manager}:update": set()})

    def apply(
        self, key: ObjectKey, manifest: Mapping[str, Any], manager: str, *, force: bool
    ) -> dict[str, Any]:
        """Merge the complete configuration of `manager`, as server-side apply does."""
        wanted = flatten(manifest)
        version = wanted.pop(RESOURCE_VERSION, None)
        stored = self.stored.get(key, StoredObject({}))
        if UID in wanted and key not in self.stored:
            text = f"uid mismatch: the provided object specified uid {wanted[UID]}"
            raise StatusError(409, "Conflict", f"{text}, and no existing object was found")
        # As in the real API, the version is compared only with that of an existing object.
        if key in self.stored and version not in {None, stored.values[RESOURCE_VERSION]}:
            raise modified_error(key)
        owned = {name: set(paths) for name, paths in stored.owned_paths.items()}
        theirs = {path for name, paths in owned.items() if name != manager for path in paths}
        lost = {p for p, value in wanted.items() if p in theirs and stored.values[p] != value}
        if lost and not force:
            fields = sorted("." + ".".join(path) for path in lost)
            causes = [{"reason": "FieldManagerConflict", "field": name} for name in fields]
            text = f"Apply failed with {len(lost)} conflict: conflict: {', '.join(fields)}"
            raise StatusError(409, "Conflict", text, causes=tuple(causes))
        dropped = owned.get(manager, set()) - wanted.keys() - theirs
        owned = {name: paths - lost for name, paths in owned.items()}
        owned |= {manager: wanted.keys() - IDENTITY}
        flat = {path: value for path, value in stored.values.items() if path not in dropped}
        return self._save(key, flat | wanted, owned)

    def merge(
        self, key: ObjectKey, patch: Mapping[str, Any], manager: str, *, subresource: str = ""
    ) -> dict[str, Any]:
        """Apply a merge patch: null deletes.

        Owners of built-in kinds are merged by uid, as in a strategic merge patch. Those of custom
        resources are replaced as a whole.
        """
        self.manifest(key)
        stored, changes = self.stored[key], flatten(patch)
        if key[0] in CUSTOM_RESOURCES and "ownerReferences" in patch.get("metadata", {}):
            kept = {p: None for p in stored.values if p[:2] == OWNERS and p not in changes}
            changes = {**changes, **kept}
        changes.pop(UID, None)  # a real server does not compare it either
        version = changes.pop(RESOURCE_VERSION, None)
        if version not in {None, stored.values[RESOURCE_VERSION]}:
            raise StatusError(409, "Conflict")
        if key[0] in WITH_STATUS:
            in_status = subresource == "status"
            changes = {p: v for p, v in changes.items() if (p[0] == "status") == in_status}
        for path, value in changes.items():
            if path[:2] == OWNERS and value and value.get("$patch") == "delete":
                changes[path] = None
        removed = {path for path, value in changes.items() if value is None}
        flat = {
            path: value
            for path, value in stored.values.items()
            if not any(path[:length] in removed for length in range(1, len(path) + 1))
        }
        flat |= {p: v for p, v in changes.items() if v is not None}
        touched = {p for p in flat if flat[p] != stored.values.get(p)}
        name = f"{manager}:update"
        owned = {other: paths & flat.keys() for other, paths in stored.owned_paths.items()}
        owned = {other: paths - touched for other, paths in owned.items()}
        return self._save(key, flat, owned | {name: owned.get(name, set()) | touched})

    def replace(self, key: ObjectKey, manifest: Mapping[str, Any], manager: str = "hand") -> None:
        """Replace an object, as kubectl does."""
        there = self.stored.get(key, StoredObject({}))
        flat = flatten(manifest) | {p: v for p, v in there.values.items() if p in SERVER_FIELDS}
        touched = {p for p in flat if flat[p] != there.values.get(p)}
        owned = {name: (paths & flat.keys()) - touched for name, paths in there.owned_paths.items()}
        self._save(key, flat, owned | {f"{manager}:update": touched})

    def update(self, key: ObjectKey, manifest: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Replace an object (PUT), if it has the resource version of the manifest."""
        self.manifest(key)
        version = manifest["metadata"].get("resourceVersion")
        if version not in {None, self.stored[key].values[RESOURCE_VERSION]}:
            raise modified_error(key)
        self.replace(key, manifest, manager)
        return self.manifest(key)

    def delete(self, key: ObjectKey, preconditions: Mapping[str, str] | None = None) -> None:
        """Delete an object (DELETE)."""
        manifest = self.manifest(key)
        for name, value in (preconditions or {}).items():
            if manifest["metadata"][name] != value:
                raise modified_error(key)
        del self.stored[key]
        self._record_change("DELETED", key, manifest)

    def select(self, query: ListQuery) -> list[dict[str, Any]]:
        """Return all selected objects."""
        manifests = [
            self.with_managed_fields(self.stored[key])
            for key in sorted(self.stored)  # by namespace and name, as in etcd
            if key[0] == query.plural
        ]
        return [query.rendered(manifest) for manifest in manifests if query.matches(manifest)]

    def compact(self) -> None:
        """Forget the history, as a compaction does."""
        self.compacted_version = self._version

    def _save(
        self, key: ObjectKey, flat: FlatObject, owned: dict[str, set[KeyPath]]
    ) -> dict[str, Any]:
        there = self.stored.get(key)
        validate(key, flat, there.values if there else None)
        if there is not None and flat == there.values:
            there.owned_paths = owned
            return self.with_managed_fields(there)
        if there is None:
            self._uids += 1
            flat = {
                ("metadata", "uid"): f"uid-{self._uids}",
                ("metadata", "creationTimestamp"): CREATED_AT,
            } | flat
            if key[0] in WITH_STATUS:
                flat = {p: v for p, v in flat.items() if p[0] != "status"}
                flat |= flatten({"status": DEFAULT_STATUS})
            if key[0] == "secrets":
                flat = {("type",): "Opaque"} | flat
        if key[0] in CUSTOM_RESOURCES:
            before_spec = spec_of(key[0], there.values) if there else None
            number = there.values[("metadata", "generation")] if there else 0
            flat[("metadata", "generation")] = number + (spec_of(key[0], flat) != before_spec)
        flat = flat | type_of(key[0])
        flat = flat | {("metadata", "resourceVersion"): str(self._version + 1)}
        flat = flat | {("metadata", "namespace"): key[1], ("metadata", "name"): key[2]}
        before = self.with_managed_fields(there) if there else None
        self.stored[key] = StoredObject(flat, owned)
        self._record_change("MODIFIED" if there else "ADDED", key, self.manifest(key), before)
        return self.manifest(key)

    def _record_change(
        self,
        kind: str,
        key: ObjectKey,
        manifest: dict[str, Any],
        before: dict[str, Any] | None = None,
    ) -> None:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)
        self.history.append((self._version, kind, key, manifest, before))
        self.changed.set()
        self.changed = asyncio.Event()


def qualified(plural: str) -> str:
    """Return a resource with its group, as in messages of the API."""
    plural = "secretsyncs" if plural == GKE_SYNCS else plural
    group = group_of(plural)
    return f"{plural}.{group}" if group else plural


def group_of(plural: str) -> str:
    """Return the API group of a resource; "" for the core group."""
    group, slash, _ = API_VERSIONS.get(plural, "v1").partition("/")
    return group if slash else ""


def type_of(plural: str) -> FlatObject:
    """Return apiVersion and kind of a resource."""
    return {("apiVersion",): API_VERSIONS.get(plural, "v1"), ("kind",): KINDS[plural]}


def spec_of(plural: str, flat: FlatObject) -> FlatObject:
    """Return what counts for the generation of a custom resource."""
    ignored = {"metadata", "status"} if plural in WITH_STATUS else {"metadata"}
    return {path: value for path, value in flat.items() if path[0] not in ignored}


def modified_error(key: ObjectKey) -> StatusError:
    """Return the error for a precondition that no longer holds."""
    return StatusError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(key[0])} "{key[2]}": the object has been'
        " modified; please apply your changes to the latest version and try again",
    )


def validate(key: ObjectKey, flat: FlatObject, before: FlatObject | None) -> None:
    """Validate an object; as in the real API, the messages quote values."""
    if before is not None and key[0] == "secrets" and before[("type",)] != flat.get(("type",)):
        raise StatusError(422, "Invalid", f"type: Invalid value: {flat!r}: immutable", ("type",))
    if before is not None and (UID in flat and flat[UID] != before[UID]):
        raise StatusError(422, "Invalid", "metadata.uid: field is immutable", ("metadata.uid",))
    if before is not None and before.get(("immutable",)) is True:
        fixed = {path: value for path, value in before.items() if path[0] in {"data", "immutable"}}
        if fixed != {
            path: value for path, value in flat.items() if path[0] in {"data", "immutable"}
        }:
            text = "data: Forbidden: field is immutable when `immutable` is set"
            raise StatusError(422, "Invalid", text, ("data",))
    if key[0] == "events" and flat.get(("involvedObject", "namespace"), "") != key[1]:
        field = "involvedObject.namespace"
        raise StatusError(422, "Invalid", f"Event {key[2]!r} is invalid: {field}", (field,))
    for path in flat:
        if path[:2] == OWNERS and not path[2]:
            raise StatusError(422, "Invalid", repr(flat), ("metadata.ownerReferences[0].uid",))


def flatten(value: Mapping[str, Any], prefix: KeyPath = ()) -> FlatObject:
    """Return the values of an object by path."""
    flat: FlatObject = {}
    for key, item in value.items():
        path = (*prefix, key)
        if path == OWNERS:
            flat |= {(*path, owner["uid"]): owner for owner in item}
        elif isinstance(item, dict):
            flat |= flatten(item, path)
        else:
            flat[path] = item
    return flat


def unflatten(flat: FlatObject) -> dict[str, Any]:
    """Return the object with these values."""
    result: dict[str, Any] = {}
    for path, value in flat.items():
        at = result
        for step in path[:-1]:
            at = at.setdefault(step, {})
        at[path[-1]] = value
    owners = result.get("metadata", {}).get("ownerReferences")
    if owners:
        result["metadata"]["ownerReferences"] = list(owners.values())
    return result


def managed_fields(manager: str, paths: set[KeyPath]) -> dict[str, Any]:
    """Return one entry of managedFields."""
    name, _, operation = manager.partition(":")
    fields: dict[str, Any] = {}
    for path in paths:
        at = fields
        for step in path:
            at = at.setdefault(f"f:{step}", {})
    operation = operation.capitalize() or "Apply"
    return {
        "manager": name,
        "operation": operation,
        "apiVersion": "v1",
        "time": CREATED_AT,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
