"""Manifests of SecretSyncs."""

from __future__ import annotations

from typing import Any

UID = "0d3b3c1e-6a53-4c4e-9f0e-1f1f6f2b7a10"


def sync_manifest(
    name: str = "web",
    namespace: str = "shop",
    *,
    api_version: str = "secret-sync.x-k8s.io/v1alpha1",
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a SecretSync as a user writes it; `spec` replaces or adds fields of the spec."""
    return {
        "apiVersion": api_version,
        "kind": "SecretSync",
        "metadata": {
            "name": name,
            "namespace": namespace,
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": {
            "secretProviderClassName": "vault",
            "serviceAccountName": "web",
            "secretObject": {
                "type": "Opaque",
                "data": [{"sourcePath": "password", "targetKey": "password"}],
            },
            **spec,
        },
    }


def served(manifest: dict[str, Any], **status: Any) -> dict[str, Any]:
    """Return a SecretSync as the API server returns it."""
    metadata = {
        "uid": UID,
        "generation": 3,
        "resourceVersion": "7",
        "creationTimestamp": "2030-01-01T12:00:00Z",
        **manifest["metadata"],
    }
    return {**manifest, "metadata": metadata, **({"status": status} if status else {})}
