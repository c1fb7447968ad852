"""A small Kubernetes API server over HTTP: list, watch, server-side apply, and its refusals.

async with running_api(tmp_path) as api:
    api.put("secretproviderclasses", class_manifest("web"))
    async with open_kube_store(api.kubeconfig, node="node-1", clock=now) as store:
        await store.get_class("shop", "web")

It keeps objects flat, one value for each path, because that is how owners of fields are counted: an
item of ownerReferences is one value under its uid, any other list is one value.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

Path_ = tuple[str, ...]
Flat = dict[Path_, Any]
Key = tuple[str, str, str]
"""Plural, namespace and name."""

OWNERS = ("metadata", "ownerReferences")
SERVER_FIELDS = {("metadata", "resourceVersion"), ("metadata", "uid")}
_OBJECTS = re.compile(
    r"/(?:api/v1|apis/secrets-store\.csi\.x-k8s\.io/v1)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)


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


@dataclass(frozen=True)
class Wanted:
    """What a list or a watch selects, and how it is to be shown."""

    plural: str
    namespace: str | None
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    metadata_only: bool

    @classmethod
    def of(cls, request: web.Request, plural: str, namespace: str | None) -> Wanted:
        """The selection that the request asks for."""
        accept = request.headers.get("Accept", "")
        kind = "PartialObjectMetadata" if "watch" in request.query else "PartialObjectMetadataList"
        return cls(
            plural,
            namespace,
            pairs_of(request.query.get("labelSelector", "")),
            pairs_of(request.query.get("fieldSelector", "")),
            f"as={kind};" in accept,
        )

    def takes(self, manifest: Mapping[str, Any]) -> bool:
        """Whether the object is selected."""
        metadata = manifest["metadata"]
        labels = metadata.get("labels", {})
        return (
            self.namespace in {None, metadata["namespace"]}
            and all(labels.get(key) == value for key, value in self.labels.items())
            and all(value_at(manifest, key) == value for key, value in self.fields.items())
        )

    def shown(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The object as it was asked for."""
        return {"metadata": manifest["metadata"]} if self.metadata_only else manifest


def pairs_of(text: str) -> dict[str, str]:
    """A selector."""
    return dict(pair.split("=", 1) for pair in text.split(",") if pair)


def value_at(manifest: Any, path: str) -> Any:
    """The value of a field such as `spec.nodeName`."""
    for step in path.split("."):
        manifest = manifest.get(step, {})
    return manifest


class KubeApiServer:
    """The server, and what a test does to it.

    Attributes:
        objects: what it holds.
        kubeconfig: names it.
        requests: each as `VERB plural`, as RBAC sees it.
        agents: who sent them, as they call themselves.
        forbidden: the same, for those that are refused with 403.
        before_write: what somebody else makes a Secret just before the next writes arrive.
        expires_in_stream: lost history is told by an event, and not by the status of the answer.
        patches: are answered while this is set.
        most_at_once: so many patches were being answered at the same time.
    """

    def __init__(self, folder: Path) -> None:
        self.objects = Objects()
        self.kubeconfig = folder / "kubeconfig"
        self.requests: list[str] = []
        self.agents: set[str] = set()
        self.forbidden: set[str] = set()
        self.before_write: list[Mapping[str, Any]] = []
        self.expires_in_stream = False
        self.patches = asyncio.Event()
        self.patches.set()
        self.most_at_once = 0
        self._under_way = 0
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._streams: set[asyncio.Task[Any]] = set()

    # --- what users and the platform do ----------------------------------------------------------

    def put(self, plural: str, manifest: Mapping[str, Any]) -> None:
        """Make the object be `manifest`, as with kubectl."""
        metadata = manifest["metadata"]
        self.objects.replace((plural, metadata["namespace"], metadata["name"]), manifest)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Delete the object."""
        self.objects.delete((plural, namespace, name))

    def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object."""
        stored = self.objects.stored.get((plural, namespace, name))
        return inflated(stored.flat) if stored else None

    def of(self, plural: str) -> list[dict[str, Any]]:
        """All objects of that kind."""
        return self.objects.listed(Wanted(plural, None, {}, {}, metadata_only=False))

    def break_streams(self) -> None:
        """Cut every watch off in the middle of a line."""
        for stream in self._streams:
            stream.cancel()

    async def start(self) -> None:
        """Serve, on the same port as before."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        server = f"http://127.0.0.1:{self.port}"
        config = {
            "clusters": [{"name": "fake", "cluster": {"server": server}}],
            "users": [{"name": "me", "user": {"token": "canary-token"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
            "current-context": "fake",
        }
        self.kubeconfig.write_text(json.dumps(config))

    async def stop(self) -> None:
        """Be away."""
        self.break_streams()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- HTTP ------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            match = _OBJECTS.fullmatch(request.path)
            if match is None:
                raise Refusal(404, "NotFound")
            if request.headers.get("Authorization") != "Bearer canary-token":
                raise Refusal(401, "Unauthorized")
            return await self._answer(request, match["plural"], match["namespace"], match["name"])
        except Refusal as refusal:
            return as_json(refusal.status, refusal.code)

    async def _answer(
        self, request: web.Request, plural: str, namespace: str | None, name: str | None
    ) -> web.StreamResponse:
        verb = verb_of(request, name)
        self.requests.append(f"{verb} {plural}")
        self.agents.add(request.headers.get("User-Agent", ""))
        if f"{verb} {plural}" in self.forbidden:
            raise Refusal(403, "Forbidden", f"User cannot {verb} {plural}")
        wanted = Wanted.of(request, plural, namespace)
        if verb == "watch":
            return await self._watch(request, wanted)
        if verb == "list":
            return as_json(self._listing(wanted))
        body = json.loads(await request.text() or "{}")
        key = (plural, namespace or "", name or body["metadata"]["name"])
        while self.before_write and verb in {"create", "patch"}:
            self.put("secrets", self.before_write.pop())
        if verb == "patch":
            await self._turn()
        return as_json(self._change(verb, key, body, request))

    async def _turn(self) -> None:
        """Wait until patches are answered."""
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await self.patches.wait()
        finally:
            self._under_way -= 1

    def _change(
        self, verb: str, key: Key, body: Mapping[str, Any], request: web.Request
    ) -> Mapping[str, Any]:
        manager = request.query.get("fieldManager", "")
        match verb, request.headers.get("Content-Type"):
            case "get", _:
                return self.objects.manifest(key)
            case "create", _:
                return self.objects.create(key, body, manager)
            case "delete", _:
                self.objects.delete(key, body.get("preconditions"))
                return {"kind": "Status", "status": "Success"}
            case "patch", "application/apply-patch+yaml":
                force = request.query.get("force") == "true"
                return self.objects.apply(key, body, manager, force=force)
            case "patch", "application/strategic-merge-patch+json":
                if key[0].startswith("secretprovider"):
                    raise Refusal(415, "UnsupportedMediaType")
                return self.objects.merge(key, body, manager)
            case "patch", "application/merge-patch+json":
                return self.objects.merge(key, body, manager)
        raise Refusal(405, "MethodNotAllowed")

    def _listing(self, wanted: Wanted) -> Mapping[str, Any]:
        return {
            "kind": "List",
            "metadata": {"resourceVersion": str(self.objects.version)},
            "items": self.objects.listed(wanted),
        }

    async def _watch(self, request: web.Request, wanted: Wanted) -> web.StreamResponse:
        seen = int(request.query.get("resourceVersion") or 0)
        if seen < self.objects.forgotten and not self.expires_in_stream:
            raise Refusal(410, "Expired")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.ensure_future(self._send(response, wanted, seen))
        self._streams.add(task)
        try:
            await asyncio.wait([task])
            if request.transport is not None:
                request.transport.abort()
        finally:
            task.cancel()
            self._streams.discard(task)
        return response

    async def _send(self, response: web.StreamResponse, wanted: Wanted, seen: int) -> None:
        while True:
            changed = self.objects.changed
            if seen < self.objects.forgotten:
                await response.write(event_line("ERROR", Refusal(410, "Expired").status))
                return
            for version, kind, key, manifest, before in self.objects.history:
                if version <= seen or key[0] != wanted.plural:
                    continue
                if wanted.takes(manifest):
                    await response.write(event_line(kind, wanted.shown(manifest)))
                elif before is not None and wanted.takes(before):
                    await response.write(event_line("DELETED", wanted.shown(manifest)))
            seen = self.objects.version
            await changed.wait()


def verb_of(request: web.Request, name: str | None) -> str:
    """The verb as RBAC knows it."""
    if request.method == "GET":
        if request.query.get("watch"):
            return "watch"
        return "get" if name else "list"
    return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}[request.method]


def event_line(kind: str, manifest: Mapping[str, Any]) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": manifest}).encode() + b"\n"


def as_json(content: Mapping[str, Any], status: int = 200) -> web.Response:
    """An answer with the very content type that the API server gives."""
    return web.Response(
        body=json.dumps(content).encode(),
        status=status,
        headers={"Content-Type": "application/json"},
    )


@asynccontextmanager
async def running_api(folder: Path) -> AsyncIterator[KubeApiServer]:
    """A server on a free port of loopback, with its kubeconfig in `folder`."""
    api = KubeApiServer(folder)
    await api.start()
    try:
        yield api
    finally:
        await api.stop()


def class_manifest(name: str, namespace: str = "shop", provider: str = "azure") -> dict[str, Any]:
    """A SecretProviderClass."""
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"provider": provider, "parameters": {"x": "y"}},
    }
