"""What a list or a watch of a small Kubernetes API server selects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class ListQuery:
    """The selectors of a list or watch, and the requested representation."""

    plural: str
    namespace: str | None
    labels: Mapping[str, str | None]
    fields: Mapping[str, str | None]
    metadata_only: bool

    @classmethod
    def from_request(cls, request: web.Request, plural: str, namespace: str | None) -> ListQuery:
        """Return the selection of a request."""
        accept = request.headers.get("Accept", "")
        kind = "PartialObjectMetadata" if "watch" in request.query else "PartialObjectMetadataList"
        return cls(
            plural,
            namespace,
            parse_selector(request.query.get("labelSelector", "")),
            parse_selector(request.query.get("fieldSelector", "")),
            f"as={kind};" in accept,
        )

    def matches(self, manifest: Mapping[str, Any]) -> bool:
        """Return whether the object is selected."""
        metadata = manifest["metadata"]
        labels = metadata.get("labels", {})
        return (
            self.namespace in {None, metadata["namespace"]}
            and all(
                key in labels if value is None else labels.get(key) == value
                for key, value in self.labels.items()
            )
            and all(field_value(manifest, key) == value for key, value in self.fields.items())
        )

    def rendered(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Return the object in the requested representation."""
        if not self.metadata_only:
            return manifest
        kind = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata"}
        return {**kind, "metadata": manifest["metadata"]}


def parse_selector(text: str) -> dict[str, str | None]:
    """Parse a selector; None means any value of the label."""
    terms = (term.partition("=") for term in text.split(",") if term)
    return {key: value if equals else None for key, equals, value in terms}


def field_value(manifest: Any, path: str) -> Any:
    """Return the value of a field such as `spec.nodeName`."""
    for step in path.split("."):
        manifest = manifest.get(step, {})
    return manifest
