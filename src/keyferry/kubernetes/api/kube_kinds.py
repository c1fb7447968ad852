"""The kinds of objects of a cluster that Keyferry uses; their instances are plain mappings."""

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
    """The pods."""

    _api_info = create_api_info("", "v1", "Pod", "pods")


class EventResource(Resource):
    """The events."""

    _api_info = create_api_info("", "v1", "Event", "events")


class NodeResource(GenericGlobalResource):
    """The nodes."""

    _api_info = create_api_info("", "v1", "Node", "nodes")


def resource_name(kind: type[Resource | NodeResource]) -> str:
    """The resource as RBAC and the messages of Kubernetes write it."""
    info = kind._api_info
    return ".".join(part for part in (info.plural, info.resource.group) if part)
