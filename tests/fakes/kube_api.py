"""A small Kubernetes API server over HTTP: list, watch, server-side apply and errors.

async with running_api(tmp_path) as api:
    api.put("secretproviderclasses", class_manifest("web"))
    async with open_kube_store(api.kubeconfig, node="node-1", clock=now) as store:
        await store.get_class("shop", "web")
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.fakes.kube_objects import (
    API_VERSIONS,
    CUSTOM_API_VERSION,
    CUSTOM_RESOURCES,
    GKE_SYNCS,
    KINDS,
    WITH_STATUS,
    ObjectKey,
    ObjectTracker,
    StatusError,
    group_of,
    qualified,
    unflatten,
)
from tests.fakes.kube_pods import POD_PATH, RunCommand, run_in_pod, serve_pod
from tests.fakes.kube_selection import ListQuery
from tests.fakes.kube_watch import WatchStream, history_expired, refuse_list

_OBJECTS = re.compile(
    r"/(?:api/v1|apis/(?P<group>secrets-store\.csi\.x-k8s\.io/v1|networking\.k8s\.io/v1"
    r"|secret-sync\.x-k8s\.io/v1alpha1|secret-sync\.gke\.io/v1|coordination\.k8s\.io/v1|apps/v1"
    r"|storage\.k8s\.io/v1|authorization\.k8s\.io/v1))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
    r"(?:/(?P<subresource>status|token|exec))?"
)
ISSUED = object()
SYNC_FIELDS = {
    *("observedGeneration", "lastAttemptTime", "objects", "observedForceSynchronization"),
    *("observedRefresh", "observedClass", "observedSecret"),
}
_OPENAPI = "/openapi/v3/apis/"
KEYFERRY_FIELDS = {"conditions", "lastRefreshTime"}

OVER_QUOTA = "exceeded quota: q, requested: secrets=1, used: secrets=0, limited: secrets=0"


class KubeApiServer:
    """A running API server, and the actions of users and of the platform.

    Attributes:
        objects: its objects.
        kubeconfig: path of a kubeconfig for it.
        requests: each as `VERB plural`, with the verb of RBAC.
        watched: selections that were watched, as `plural namespace`; `*` for all namespaces.
        user_agents: the User-Agent headers of the requests.
        forbidden: requests without a permission, as `VERB plural`.
        over_quota: requests that a ResourceQuota rejects, as `VERB plural`.
        refusals: the errors of further requests, by `VERB plural`.
        absent: plurals whose CRD does not exist.
        serves_sync_groups: whether the API knows the groups of SecretSyncs. Without them, it still
            answers 403 to clients without the permission.
        missed: number of requests for absent plurals.
        not_found: the reads of objects that do not exist, as in `requests`.
        token_requests: the specs of the token requests that were answered.
        token_status: the status of their answers; `ISSUED` for a token.
        issue_token: returns the token of a subject and an audience.
        run_command: runs a command with its standard input; returns exit code and output.
        upstream_crds: the CRD of pod statuses lacks the fields that Keyferry adds.
        upstream_sync_crd: the CRD of SecretSyncs lacks the fields that Keyferry adds.
        denied: rights that no user has, as `USER VERB plural/subresource NAMESPACE`.
        crds_read: set when a client has read the schemas of the CRDs.
        max_page: the greatest number of objects in a page.
        pages_expire: every further page has expired.
        concurrent_writes: manifests that another client applies just before the next writes.
        streams_lists: a watch may begin with a list (sendInitialEvents), as since Kubernetes 1.34.
        refuses_lists_late: if it does not stream lists, it accepts the watch and ends it with an
            error, as with an old etcd.
        refused_lists: number of streaming lists that were refused.
        list_versions: the resourceVersions from which lists, streaming or not, may be.
        sends_bookmarks: a watch that permits them gets bookmarks.
        expires_by_event: reports a compacted history with an event, as a real server mostly does,
            and not with the status 410.
        writes_allowed: while it is cleared, patches and creations of pod statuses block.
        peak_concurrent_writes: the greatest number of concurrent ones.
    """

    def __init__(self, folder: Path) -> None:
        self.objects = ObjectTracker()
        self.kubeconfig = folder / "kubeconfig"
        self.requests: list[str] = []
        self.watched: set[str] = set()
        self.user_agents: set[str] = set()
        self.forbidden: set[str] = set()
        self.over_quota: set[str] = set()
        self.refusals: dict[str, StatusError] = {}
        self.absent: set[str] = set()
        self.serves_sync_groups = True
        self.missed = 0
        self.not_found: list[str] = []
        self.token_requests: list[Mapping[str, Any]] = []
        self.token_status: object = ISSUED
        self.issue_token: Callable[[str, str], str] | None = None
        self.run_command: RunCommand | None = None
        self.upstream_crds = False
        self.upstream_sync_crd = False
        self.denied: set[str] = set()
        self.crds_read = asyncio.Event()
        self.max_page = 500
        self.pages_expire = False
        self.concurrent_writes: list[Mapping[str, Any]] = []
        self.streams_lists = True
        self.refuses_lists_late = False
        self.refused_lists = 0
        self.list_versions: list[str] = []
        self.sends_bookmarks = True
        self.expires_by_event = True
        self.writes_allowed = asyncio.Event()
        self.writes_allowed.set()
        self.peak_concurrent_writes = 0
        self._writes_in_flight = 0
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._streams_end = asyncio.Event()
        self._streams: set[asyncio.Task[Any]] = set()

    # --- users and the platform ------------------------------------------------------------------

    def put(self, plural: str, manifest: Mapping[str, Any]) -> None:
        """Create or replace an object, as kubectl does."""
        metadata = manifest["metadata"]
        self.objects.replace((plural, metadata["namespace"], metadata["name"]), manifest)

    def remove(self, plural: str, namespace: str, name: str) -> None:
        """Delete the object."""
        self.objects.delete((plural, namespace, name))

    def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None."""
        stored = self.objects.stored.get((plural, namespace, name))
        return unflatten(stored.values) if stored else None

    def all_of(self, plural: str) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        return self.objects.select(ListQuery(plural, None, {}, {}, metadata_only=False))

    def break_streams(self) -> None:
        """Break every watch in the middle of a line."""
        for stream in self._streams:
            stream.cancel()

    def end_streams(self) -> None:
        """End every watch as the server does after a few minutes."""
        self._streams_end.set()
        self._streams_end = asyncio.Event()

    async def start(self) -> None:
        """Start the server, on the previous port if there was one."""
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
        """Stop the server."""
        self.break_streams()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- HTTP ------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            match = _OBJECTS.fullmatch(request.path)
            if request.path.startswith(_OPENAPI):
                return json_response(self._openapi(request.path.removeprefix(_OPENAPI)))
            to_pod = POD_PATH.fullmatch(request.path)
            if match is None and to_pod is None:
                raise StatusError(404, "NotFound")
            if request.headers.get("Authorization") != "Bearer canary-token":
                raise StatusError(401, "Unauthorized")
            if to_pod is not None:
                return await self._connect_to_pod(request, to_pod)
            assert match is not None
            plural = match["plural"]
            if match["group"] == API_VERSIONS[GKE_SYNCS]:
                plural = GKE_SYNCS
            if plural in self.absent:
                self.missed += 1
                return web.Response(status=404, text="404 page not found\n")
            return await self._respond(request, plural, match)
        except StatusError as refusal:
            response = json_response(refusal.status, refusal.code)
            response.headers.update(refusal.headers)
            return response

    async def _connect_to_pod(
        self, request: web.Request, match: re.Match[str]
    ) -> web.StreamResponse:
        action = f"get pods/{match['forward'] or 'proxy'}"
        self.requests.append(action)
        if action in self.forbidden:
            raise permission_error("get", "pods", match["namespace"], match["pod"])
        return await serve_pod(request, match)

    async def _respond(
        self, request: web.Request, plural: str, match: re.Match[str]
    ) -> web.StreamResponse:
        namespace, name, subresource = match["namespace"], match["name"], match["subresource"] or ""
        verb = verb_of(request, name)
        action = f"{verb} {plural}" + (f"/{subresource}" if subresource else "")
        self.requests.append(action)
        self.user_agents.add(request.headers.get("User-Agent", ""))
        self._refuse(action, verb, plural, namespace, name)
        if subresource == "exec":
            assert self.run_command is not None
            return await run_in_pod(request, self.run_command)
        wanted = ListQuery.from_request(request, plural, namespace)
        if verb == "watch":
            return await self._watch(request, wanted)
        if verb == "list":
            if "continue" not in request.query:
                self.list_versions.append(request.query.get("resourceVersion", ""))
            return json_response(self._listing(wanted, request))
        body = json.loads(await request.text() or "{}")
        if plural == "subjectaccessreviews":
            return json_response(
                {**body, "status": {"allowed": self._is_allowed(body["spec"])}}, 201
            )
        key = (plural, namespace or "", name or body["metadata"]["name"])
        if subresource == "token":
            return json_response(self._token(key, body), 201)
        while self.concurrent_writes and verb in {"create", "patch"}:
            self.put("secrets", self.concurrent_writes.pop())
        if verb == "patch" or (verb == "create" and plural == "secretproviderclasspodstatuses"):
            await self._wait_for_writes()
        if verb == "get" and self.get(*key) is None:
            self.not_found.append(action)
        return json_response(self._execute(verb, key, body, request))

    def _refuse(
        self, action: str, verb: str, plural: str, namespace: str | None, name: str | None
    ) -> None:
        """Raise the error with which a test has this action answered."""
        if action in self.over_quota:
            raise StatusError(403, "Forbidden", f'{plural} "{name}" is forbidden: {OVER_QUOTA}')
        if action in self.forbidden:
            raise permission_error(verb, plural, namespace, name)
        if refusal := self.refusals.get(action):
            raise refusal

    def _token(self, key: ObjectKey, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Issue a token for a service account."""
        self.objects.manifest(key)
        self.token_requests.append(body["spec"])
        if self.token_status is not ISSUED:
            return {**body, "status": self.token_status}
        token = f"canary-token-{len(self.token_requests)}"
        if self.issue_token is not None:
            _, namespace, name = key
            subject = f"system:serviceaccount:{namespace}:{name}"
            token = self.issue_token(subject, body["spec"]["audiences"][0])
        return {
            **body,
            "status": {"token": token, "expirationTimestamp": "2030-01-01T12:10:00Z"},
        }

    def _is_allowed(self, spec: Mapping[str, Any]) -> bool:
        """Return whether a user has a right; a right in a namespace is enough there."""
        asked = spec["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked["subresource"])))
        user = spec["user"].rpartition(":")[2]
        return f"{user} {asked['verb']} {resource} {asked['namespace']}".strip() not in self.denied

    def _openapi(self, api_version: str) -> Mapping[str, Any]:
        kinds = {
            plural: kind
            for plural, kind in CUSTOM_RESOURCES.items()
            if API_VERSIONS[plural] == api_version
            and plural not in self.absent
            and (self.serves_sync_groups or plural not in WITH_STATUS)
        }
        if not kinds:
            raise StatusError(404, "NotFound")
        if api_version == CUSTOM_API_VERSION:
            self.crds_read.set()
        group, _, version = api_version.partition("/")
        prefix = ".".join([*reversed(group.split(".")), version])
        schemas = {f"{prefix}.{kind}": self._schema(kind) for kind in kinds.values()}
        return {"openapi": "3.0.0", "components": {"schemas": schemas}}

    def _schema(self, kind: str) -> Mapping[str, Any]:
        """Return the schema of a custom resource, as far as a client looks at it."""
        if kind == "SecretSync":
            fields = {"conditions", "syncHash", "lastSuccessfulSyncTime"}
            added, lacks = SYNC_FIELDS, self.upstream_sync_crd
        else:
            fields = {"podName", "objects"}
            added, lacks = KEYFERRY_FIELDS, self.upstream_crds
        fields = fields if lacks else fields | added
        status = {"type": "object", "properties": {field: {} for field in sorted(fields)}}
        return {"type": "object", "properties": {"status": status}}

    async def _wait_for_writes(self) -> None:
        """Wait until writes are allowed."""
        self._writes_in_flight += 1
        self.peak_concurrent_writes = max(self.peak_concurrent_writes, self._writes_in_flight)
        try:
            await self.writes_allowed.wait()
        finally:
            self._writes_in_flight -= 1

    def _execute(
        self, verb: str, key: ObjectKey, body: Mapping[str, Any], request: web.Request
    ) -> Mapping[str, Any]:
        manager = request.query.get("fieldManager", "")
        match verb, request.headers.get("Content-Type"):
            case "get", _:
                return self.objects.manifest(key)
            case "create", _:
                return self.objects.create(key, self._without_dropped(key, body), manager)
            case "update", _:
                return self.objects.update(key, body, manager)
            case "delete", _:
                self.objects.delete(key, body.get("preconditions"))
                return {"kind": "Status", "status": "Success"}
            case "patch", "application/apply-patch+yaml":
                force = request.query.get("force") == "true"
                return self.objects.apply(key, body, manager, force=force)
            case "patch", "application/strategic-merge-patch+json":
                if key[0] in CUSTOM_RESOURCES:
                    raise StatusError(415, "UnsupportedMediaType")
                return self.objects.merge(key, body, manager)
            case "patch", "application/merge-patch+json":
                body = self._without_dropped(key, body)
                subresource = "status" if request.path.endswith("/status") else ""
                return self.objects.merge(key, body, manager, subresource=subresource)
        raise StatusError(405, "MethodNotAllowed")

    def _without_dropped(self, key: ObjectKey, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a manifest without the fields that the CRDs of upstream lack."""
        if not self.upstream_crds or key[0] != "secretproviderclasspodstatuses":
            return body
        status = {k: v for k, v in body["status"].items() if k not in KEYFERRY_FIELDS}
        return {**body, "status": status}

    def _listing(self, query: ListQuery, request: web.Request) -> Mapping[str, Any]:
        """Return a page of a list.

        An empty list of metadata is null, because the server converts it from a list without items.
        Only custom resources and metadata have a kind in a list.
        """
        version, _, start = request.query.get("continue", f"{self.objects.version}:0").partition(
            ":"
        )
        if self.pages_expire and "continue" in request.query:
            raise StatusError(410, "Expired", "The provided continue parameter is too old")
        selected = self.objects.select(query)
        metadata: dict[str, Any] = {"resourceVersion": version}
        if "limit" in request.query:
            end = int(start) + min(int(request.query["limit"]), self.max_page)
            if end < len(selected):
                remaining = len(selected) - end
                metadata |= {"continue": f"{version}:{end}", "remainingItemCount": remaining}
            selected = selected[int(start) : end]
        if query.metadata_only:
            kind, api_version = "PartialObjectMetadata", "meta.k8s.io/v1"
        elif query.plural in CUSTOM_RESOURCES:
            kind, api_version = KINDS[query.plural], API_VERSIONS[query.plural]
        else:
            kind, api_version = KINDS[query.plural], API_VERSIONS.get(query.plural, "v1")
            typed = {"kind", "apiVersion"}
            selected = [{k: v for k, v in one.items() if k not in typed} for one in selected]
        items = None if query.metadata_only and not selected else selected
        return {
            "kind": f"{kind}List",
            "apiVersion": api_version,
            "metadata": metadata,
            "items": items,
        }

    async def _watch(self, request: web.Request, query: ListQuery) -> web.StreamResponse:
        self.watched.add(f"{query.plural} {query.namespace or '*'}")
        lists = "sendInitialEvents" in request.query
        if lists and not self.streams_lists:
            self.refused_lists += 1
            if self.refuses_lists_late:
                return await refuse_list(request)
            raise StatusError(422, "Invalid", "sendInitialEvents is forbidden for watch")
        if lists:
            self.list_versions.append(request.query.get("resourceVersion", ""))
        seen = self.objects.version if lists else int(request.query.get("resourceVersion") or 0)
        if seen < self.objects.compacted_version and not self.expires_by_event:
            raise history_expired()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        bookmarks = self.sends_bookmarks and request.query.get("allowWatchBookmarks") == "true"
        stream = WatchStream(response, query, self.objects, seen=seen, bookmarks=bookmarks)
        if lists:
            await stream.send_list()
        task = asyncio.ensure_future(stream.send_changes())
        end = asyncio.ensure_future(self._streams_end.wait())
        self._streams.add(task)
        try:
            await asyncio.wait([task, end], return_when=asyncio.FIRST_COMPLETED)
            if task.done() and request.transport is not None:
                request.transport.abort()
            elif not task.done():
                await stream.send_bookmark()
        finally:
            task.cancel()
            end.cancel()
            self._streams.discard(task)
        return response


def permission_error(
    verb: str, plural: str, namespace: str | None, name: str | None
) -> StatusError:
    """Return the error for a missing permission."""
    group = group_of(plural)
    about = f' "{name}"' if name else ""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    return StatusError(
        403,
        "Forbidden",
        f"{qualified(plural)}{about} is forbidden: User"
        f' "system:serviceaccount:keyferry:keyferry" cannot {verb} resource "{plural}" in API'
        f' group "{group}" {where}',
    )


def verb_of(request: web.Request, name: str | None) -> str:
    """Return the RBAC verb of a request."""
    if request.method == "GET":
        if request.query.get("watch"):
            return "watch"
        return "get" if name else "list"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[request.method]


def json_response(content: Mapping[str, Any], status: int = 200) -> web.Response:
    """Return a response with the content type of a real API server."""
    return web.Response(
        body=json.dumps(content).encode(),
        status=status,
        headers={"Content-Type": "application/json"},
    )


@asynccontextmanager
async def running_api(folder: Path) -> AsyncIterator[KubeApiServer]:
    """Run a server on a free port of loopback, with its kubeconfig in `folder`."""
    api = KubeApiServer(folder)
    await api.start()
    try:
        yield api
    finally:
        await api.stop()


def class_manifest(name: str, namespace: str = "shop", provider: str = "azure") -> dict[str, Any]:
    """Return the manifest of a SecretProviderClass."""
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"provider": provider, "parameters": {"x": "y"}},
    }


def pod_manifest(name: str, node: str, *, namespace: str = "shop") -> dict[str, Any]:
    """Return the manifest of a pod on a node with a volume of the SecretProviderClass `web`."""
    attributes = {"secretProviderClass": "web"}
    volume = {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": attributes}
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{name}"},
        "spec": {"nodeName": node, "volumes": [{"name": "secrets", "csi": volume}]},
        "status": {"phase": "Pending"},
    }
