"""The kinds of objects that Keyferry reads and writes, for lightkube."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightkube.generic_resource import (
    GenericGlobalResource,
    GenericNamespacedResource,
    create_api_info,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_CRD_GROUP = "secrets-store.csi.x-k8s.io"


class Resource(GenericNamespacedResource):
    """A kind of object whose instances are plain mappings."""

    def __init__(self, manifest: Mapping[str, object]) -> None:
        super().__init__()
        self.update(manifest)


class GlobalResource(GenericGlobalResource):
    """A kind of object without a namespace whose instances are plain mappings."""

    def __init__(self, manifest: Mapping[str, object]) -> None:
        super().__init__()
        self.update(manifest)


class SecretProviderClassResource(Resource):
    """The classes."""

    _api_info = create_api_info(_CRD_GROUP, "v1", "SecretProviderClass", "secretproviderclasses")


class PodStatusResource(Resource):
    """The pod statuses."""

    _api_info = create_api_info(
        _CRD_GROUP, "v1", "SecretProviderClassPodStatus", "secretproviderclasspodstatuses"
    )


class SecretResource(Resource):
    """The Secrets."""

    _api_info = create_api_info("", "v1", "Secret", "secrets")


class PodResource(Resource):
    """Pods."""

    _api_info = create_api_info("", "v1", "Pod", "pods")


class ServiceAccountResource(Resource):
    """Service accounts."""

    _api_info = create_api_info("", "v1", "ServiceAccount", "serviceaccounts")


class IngressResource(Resource):
    """Ingresses."""

    _api_info = create_api_info("networking.k8s.io", "v1", "Ingress", "ingresses")


class EventResource(Resource):
    """Events."""

    _api_info = create_api_info("", "v1", "Event", "events")


class DaemonSetResource(Resource):
    """DaemonSets."""

    _api_info = create_api_info("apps", "v1", "DaemonSet", "daemonsets")


class DeploymentResource(Resource):
    """Deployments."""

    _api_info = create_api_info("apps", "v1", "Deployment", "deployments")


class NodeResource(GenericGlobalResource):
    """Nodes."""

    _api_info = create_api_info("", "v1", "Node", "nodes")


class CsiDriverResource(GlobalResource):
    """CSIDriver objects."""

    _api_info = create_api_info("storage.k8s.io", "v1", "CSIDriver", "csidrivers")


class AccessReviewResource(GlobalResource):
    """Questions whether a user has a permission; the API answers and stores nothing."""

    _api_info = create_api_info(
        "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews"
    )


def resource_name(kind: type[Resource | GlobalResource | NodeResource]) -> str:
    """Return the plural with its group, as in RBAC: `secretproviderclasses.GROUP`."""
    info = kind._api_info
    group = (info.parent or info.resource).group
    subresource = f"/{info.action}" if info.action else ""
    return ".".join(part for part in (info.plural, group) if part) + subresource
