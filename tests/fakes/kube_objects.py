"""The objects of a small Kubernetes API server: server-side apply, owners of fields, refusals.

They are kept flat, one value for each path, because that is how owners of fields are counted: an
item of ownerReferences is one value under its uid, any other list is one value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.kube_selection import Wanted

Path_ = tuple[str, ...]
Flat = dict[Path_, Any]
Key = tuple[str, str, str]
"""Plural, namespace and name."""
OWNERS = ("metadata", "ownerReferences")
SERVER_FIELDS = {("metadata", "resourceVersion"), ("metadata", "uid")}


class Refusal(Exception):  # noqa: N818 - an answer, no fault
    """An answer that is an error."""

    def __init__(self, code: int, reason: str, message: str = "", fields: tuple[str, ...] = ()):
        super().__init__(code, reason)
        causes = [{"reason": "FieldValueInvalid", "field": name} for name in fields]
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message or reason,
            "details": {"causes": causes},
        }


@dataclass
class Stored:
    """One object: its values, and which manager owns which."""

    flat: Flat
    owned: dict[str, set[Path_]] = field(default_factory=dict)


class Objects:
    """What the server holds, and everything that happened since `forgotten`."""

    def __init__(self) -> None:
        self.stored: dict[Key, Stored] = {}
        self.history: list[tuple[int, str, Key, dict[str, Any], dict[str, Any] | None]] = []
        self.forgotten = 0
        self.changed = asyncio.Event()
        self._version = 100
        self._uids = 0

    @property
    def version(self) -> int:
        """The moment."""
        return self._version

    def manifest(self, key: Key) -> dict[str, Any]:
        """The object as it is served."""
        if key not in self.stored:
            raise Refusal(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return self.served(self.stored[key])

    def served(self, stored: Stored) -> dict[str, Any]:
        """The object, with who owns what of it."""
        manifest = inflated(stored.flat)
        manifest["metadata"]["managedFields"] = [
            managed_fields(manager, paths) for manager, paths in stored.owned.items() if paths
        ]
        return manifest

    def create(self, key: Key, manifest: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """POST."""
        if key in self.stored:
            raise Refusal(409, "AlreadyExists")
        return self._save(key, flattened(manifest), {f"{manager}:update": set()})

    def apply(
        self, key: Key, manifest: Mapping[str, Any], manager: str, *, force: bool
    ) -> dict[str, Any]:
        """PATCH with the whole that `manager` wants, as server-side apply merges it."""
        wanted = flattened(manifest)
        version = wanted.pop(("metadata", "resourceVersion"), None)
        stored = self.stored.get(key, Stored({}))
        if version not in {None, stored.flat.get(("metadata", "resourceVersion"))}:
            raise Refusal(409, "Conflict")
        owned = {name: set(paths) for name, paths in stored.owned.items()}
        theirs = {path for name, paths in owned.items() if name != manager for path in paths}
        lost = {p for p, value in wanted.items() if p in theirs and stored.flat[p] != value}
        if lost and not force:
            raise Refusal(409, "Conflict")
        dropped = owned.get(manager, set()) - wanted.keys() - theirs
        owned = {name: paths - lost for name, paths in owned.items()} | {manager: set(wanted)}
        flat = {path: value for path, value in stored.flat.items() if path not in dropped}
        return self._save(key, flat | wanted, owned)

    def merge(self, key: Key, patch: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """PATCH as strategic merge: null removes, owners are merged by uid."""
        self.manifest(key)
        stored, changes = self.stored[key], flattened(patch)
        for path, value in changes.items():
            if path[:2] == OWNERS and value.get("$patch") == "delete":
                changes[path] = None
        flat = {p: v for p, v in stored.flat.items() if changes.get(p, v) is not None}
        flat |= {p: v for p, v in changes.items() if v is not None}
        touched = {p for p in flat if flat[p] != stored.flat.get(p)}
        name = f"{manager}:update"
        owned = {other: paths & flat.keys() for other, paths in stored.owned.items()}
        owned = {other: paths - touched for other, paths in owned.items()}
        return self._save(key, flat, owned | {name: owned.get(name, set()) | touched})

    def replace(self, key: Key, manifest: Mapping[str, Any], manager: str = "hand") -> None:
        """What kubectl apply or edit does: the object is `manifest` and no more."""
        there = self.stored.get(key, Stored({}))
        flat = flattened(manifest) | {p: v for p, v in there.flat.items() if p in SERVER_FIELDS}
        touched = {p for p in flat if flat[p] != there.flat.get(p)}
        owned = {name: (paths & flat.keys()) - touched for name, paths in there.owned.items()}
        self._save(key, flat, owned | {f"{manager}:update": touched})

    def delete(self, key: Key, preconditions: Mapping[str, str] | None = None) -> None:
        """DELETE."""
        manifest = self.manifest(key)
        for name, value in (preconditions or {}).items():
            if manifest["metadata"][name] != value:
                raise Refusal(409, "Conflict")
        del self.stored[key]
        self._happened("DELETED", key, manifest)

    def listed(self, wanted: Wanted) -> list[dict[str, Any]]:
        """All objects of a selection."""
        manifests = [self.served(s) for key, s in self.stored.items() if key[0] == wanted.plural]
        return [wanted.shown(manifest) for manifest in manifests if wanted.takes(manifest)]

    def forget(self) -> None:
        """What a compaction does."""
        self.forgotten = self._version

    def _save(self, key: Key, flat: Flat, owned: dict[str, set[Path_]]) -> dict[str, Any]:
        there = self.stored.get(key)
        check(key, flat, there.flat if there else None)
        if there is not None and flat == there.flat:
            there.owned = owned
            return self.served(there)
        if there is None:
            self._uids += 1
            flat = {("metadata", "uid"): f"uid-{self._uids}"} | flat
        flat = flat | {("metadata", "resourceVersion"): str(self._version + 1)}
        flat = flat | {("metadata", "namespace"): key[1], ("metadata", "name"): key[2]}
        before = self.served(there) if there else None
        self.stored[key] = Stored(flat, owned)
        self._happened("MODIFIED" if there else "ADDED", key, self.manifest(key), before)
        return self.manifest(key)

    def _happened(
        self, kind: str, key: Key, manifest: dict[str, Any], before: dict[str, Any] | None = None
    ) -> None:
        self._version += 1
        manifest["metadata"]["resourceVersion"] = str(self._version)
        self.history.append((self._version, kind, key, manifest, before))
        self.changed.set()
        self.changed = asyncio.Event()


def check(key: Key, flat: Flat, before: Flat | None) -> None:
    """The few rules of the API that matter here; the messages quote values, as the real ones do."""
    if before is not None and key[0] == "secrets" and before[("type",)] != flat.get(("type",)):
        raise Refusal(422, "Invalid", f"type: Invalid value: {flat!r}: immutable", ("type",))
    for path in flat:
        if path[:2] == OWNERS and not path[2]:
            raise Refusal(422, "Invalid", repr(flat), ("metadata.ownerReferences[0].uid",))


def flattened(value: Mapping[str, Any], at: Path_ = ()) -> Flat:
    """One value for each path."""
    flat: Flat = {}
    for key, item in value.items():
        path = (*at, key)
        if path == OWNERS:
            flat |= {(*path, owner["uid"]): owner for owner in item}
        elif isinstance(item, dict):
            flat |= flattened(item, path)
        else:
            flat[path] = item
    return flat


def inflated(flat: Flat) -> dict[str, Any]:
    """The object of these values."""
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


def managed_fields(manager: str, paths: set[Path_]) -> dict[str, Any]:
    """One entry of managedFields."""
    name, _, operation = manager.partition(":")
    fields: dict[str, Any] = {}
    for path in paths:
        at = fields
        for step in path:
            at = at.setdefault(f"f:{step}", {})
    operation = operation.capitalize() or "Apply"
    return {"manager": name, "operation": operation, "fieldsV1": fields}
