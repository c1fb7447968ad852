"""The resources of the Kubernetes API that only the SecretSync controller uses."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import create_api_info

from keyferry.kubernetes.api.resources import Resource
from keyferry.kubernetes.syncs.groups import SYNC_KIND, SYNC_PLURAL

if TYPE_CHECKING:
    from keyferry.kubernetes.syncs.groups import SyncGroup


@cache
def sync_resource(group: SyncGroup) -> type[Resource]:
    """Return the SecretSyncs of an API group and version."""
    info = create_api_info(group.group, group.version, SYNC_KIND, SYNC_PLURAL)
    return type(SYNC_KIND, (Resource,), {"_api_info": info})


@cache
def sync_status_resource(group: SyncGroup) -> type[Resource]:
    """Return the status subresource of the SecretSyncs of an API group and version."""
    parent = ResourceDef(group.group, group.version, SYNC_KIND)
    info = ApiInfo(
        resource=parent, parent=parent, plural=SYNC_PLURAL, verbs=["patch"], action="status"
    )
    return type(f"{SYNC_KIND}Status", (Resource,), {"_api_info": info})


class LeaseResource(Resource):
    """Leases."""

    _api_info = create_api_info("coordination.k8s.io", "v1", "Lease", "leases")


class TokenRequestResource(Resource):
    """The subresource `token` of service accounts."""

    _api_info = ApiInfo(
        resource=ResourceDef("authentication.k8s.io", "v1", "TokenRequest"),
        parent=ResourceDef("", "v1", "ServiceAccount"),
        plural="serviceaccounts",
        verbs=["post"],
        action="token",
    )
