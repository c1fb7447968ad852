"""Reads what `keyferry lint --cluster` checks. No Secret is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from keyferry.errors import StorePermissionError
from keyferry.kubernetes.api.api_errors import ApiNotFoundError
from keyferry.kubernetes.api.client import ListOptions
from keyferry.kubernetes.api.crd_check import (
    ADDED_FIELDS,
    REMEDY,
    SYNC_ADDED_FIELDS,
    describes,
    missing_fields,
)
from keyferry.kubernetes.api.resources import (
    PodResource,
    PodStatusResource,
    SecretProviderClassResource,
    resource_name,
)
from keyferry.kubernetes.api.syncs.resources import sync_resource
from keyferry.kubernetes.class_codec import CLASS_API_VERSIONS, CLASS_KIND
from keyferry.kubernetes.object_codec import POD_STATUS_API_VERSION, POD_STATUS_KIND
from keyferry.kubernetes.syncs.groups import GKE_GROUP, SYNC_KIND, UPSTREAM_GROUP
from keyferry.lint.finding import Finding, Place, finding
from keyferry.lint.manifests import Manifest, Manifests, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from keyferry.formats.kubernetes_yaml import FieldPath, Value
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.resources import Resource
    from keyferry.kubernetes.syncs.groups import SyncGroup

ALL_NAMESPACES = "*"
_INSTALL = f"Install them: {REMEDY}"
_SYNC_REMEDY = "Run: kubectl apply --server-side --force-conflicts -f deploy/crds/secretsyncs.yaml"
_FINISHED = ("Succeeded", "Failed")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_CONTAINER_FIELDS = ("name", "env", "envFrom", "volumeMounts")
_POD_FIELDS = ("volumes", "imagePullSecrets", "serviceAccountName")


async def read_cluster(api: KubeApi, namespace: str, *, warn: Callable[[str], None]) -> Manifests:
    """Read the SecretProviderClasses, SecretSyncs and pods of a cluster, and check its CRDs.

    Args:
        api: the Kubernetes API.
        namespace: the only one, or `ALL_NAMESPACES`.
        warn: reports what may not be read.

    Raises:
        StoreError: the SecretProviderClasses cannot be read, or the API is unavailable.
    """
    reader = _Reader(api, namespace, warn)
    found = await reader.classes()
    for group in (UPSTREAM_GROUP, GKE_GROUP):
        found += await reader.syncs(group)
    return found + await reader.pods()


class _LiveSource:
    """An object of a cluster, which has no lines."""

    def line_of(self, _path: FieldPath, /) -> int:
        return 0

    def text_of(self, _path: FieldPath, /) -> str:
        return ""


_LIVE = _LiveSource()


class _Reader:
    """Reads objects of one namespace or all."""

    def __init__(self, api: KubeApi, namespace: str, warn: Callable[[str], None]) -> None:
        self._api = api
        self._namespace = namespace
        self._warn = warn

    async def classes(self) -> Manifests:
        """Return the SecretProviderClasses, and what is wrong with the CRDs of the driver."""
        openapi = await self._openapi(POD_STATUS_API_VERSION)
        findings = []
        objects: Sequence[dict[str, Value]] = ()
        try:
            objects = await self._list(SecretProviderClassResource)
        except ApiNotFoundError:
            findings.append(_missing_crd(SecretProviderClassResource))
        if (findings or openapi) and not describes(openapi, POD_STATUS_KIND):
            findings.append(_missing_crd(PodStatusResource))
        if missing := missing_fields(openapi, POD_STATUS_KIND, ADDED_FIELDS):
            findings.append(_old_crd(resource_name(PodStatusResource), missing, f"Run: {REMEDY}"))
        result = Manifests(findings=tuple(findings), is_complete=True)
        return result + _manifests(objects, CLASS_API_VERSIONS[0], CLASS_KIND)

    async def syncs(self, group: SyncGroup) -> Manifests:
        """Return the SecretSyncs of an API group; nothing if the cluster does not have it."""
        openapi = await self._openapi(str(group))
        if not describes(openapi, SYNC_KIND):
            return Manifests()
        # GKE manages the CRD of its group, so that nobody can replace it.
        fields = SYNC_ADDED_FIELDS if group == UPSTREAM_GROUP else ()
        missing = missing_fields(openapi, SYNC_KIND, fields)
        findings = (_old_crd(group.resource, missing, _SYNC_REMEDY),) if missing else ()
        objects = await self._list(sync_resource(group), required=False)
        return Manifests(findings=findings) + _manifests(objects, str(group), SYNC_KIND)

    async def pods(self) -> Manifests:
        """Return one pod of each controller."""
        pods = await self._list(PodResource, required=False, parse=_relevant_parts)
        return _manifests(tuple(_one_of_each(pods)), "v1", "Pod")

    async def _openapi(self, api_version: str) -> Value:
        """Return the OpenAPI document of an API group; None if the cluster does not have it."""
        try:
            return cast("Value", await self._api.openapi(api_version))
        except ApiNotFoundError:
            return None

    async def _list(
        self,
        kind: type[Resource],
        *,
        required: bool = True,
        parse: Callable[[dict[str, Value]], dict[str, Value]] = dict,
    ) -> tuple[dict[str, Value], ...]:
        selection = ListOptions(kind, self._namespace)
        try:
            return await self._api.list_parsed(selection, parse)
        except StorePermissionError as error:
            if required:
                raise
            self._warn(f"{resource_name(kind)} are not checked: {error}")
            return ()


def _manifests(objects: Sequence[dict[str, Value]], api_version: str, kind: str) -> Manifests:
    result = Manifests()
    for value in sorted(
        objects, key=lambda each: (_named(each, "namespace"), _named(each, "name"))
    ):
        namespace, name = _named(value, "namespace"), _named(value, "name")
        # Items of a list may lack their type.
        typed: Value = {**value, "apiVersion": api_version, "kind": kind}
        place = f"{namespace}/{name}"
        result += parse_manifest(Manifest(place, _LIVE, (), kind, namespace, name, typed))
    return result


def _named(value: Mapping[str, Value], field: str) -> str:
    metadata = value.get("metadata")
    found = metadata.get(field) if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else ""


def _relevant_parts(pod: dict[str, Value]) -> dict[str, Value]:
    """Return a pod without values of variables, and whatever else is not checked."""
    spec, status = _mapping(pod.get("spec")), _mapping(pod.get("status"))
    parts: dict[str, Value] = {field: spec.get(field) for field in _POD_FIELDS}
    for field in _CONTAINERS:
        containers = spec.get(field)
        parts[field] = [
            {name: _mapping(each).get(name) for name in _CONTAINER_FIELDS}
            for each in (containers if isinstance(containers, list) else ())
        ]
    return {
        "metadata": pod.get("metadata"),
        "spec": parts,
        "status": {"phase": status.get("phase")},
    }


def _one_of_each(pods: Sequence[dict[str, Value]]) -> Iterator[dict[str, Value]]:
    """Yield the pods that have not finished; of equal ones the first."""
    seen: set[tuple[str, str]] = set()
    for pod in sorted(pods, key=lambda each: _named(each, "name")):
        if _mapping(pod["status"]).get("phase") in _FINISHED:
            continue
        metadata = _mapping(pod["metadata"])
        owners = metadata.get("ownerReferences")
        controllers = [
            str(_mapping(owner).get("uid"))
            for owner in (owners if isinstance(owners, list) else ())
            if _mapping(owner).get("controller") is True
        ]
        revision = _mapping(metadata.get("labels")).get("controller-revision-hash")
        key = (controllers[0], str(revision)) if controllers else None
        if key not in seen:
            yield pod
        if key is not None:
            seen.add(key)


def _mapping(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}


def _missing_crd(kind: type[Resource]) -> Finding:
    place = Place(resource_name(kind), 0)
    return finding("missing-crd", place, "", "the cluster has no such CRD", _INSTALL)


def _old_crd(name: str, missing: Sequence[str], remedy: str) -> Finding:
    listed = ", ".join(f"status.{field}" for field in missing)
    problem = f"the CRD is that of upstream, or of an old version: it drops {listed}"
    return finding("old-crd", Place(name, 0), "", problem, remedy)
