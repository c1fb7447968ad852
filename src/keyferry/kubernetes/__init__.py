"""The object store: reads SecretProviderClasses; writes Secrets, pod statuses and events.

The engine uses only this interface. It is implemented by the Kubernetes API or a folder of YAML
(`manifests`). The objects are the upstream ones, reduced to what Keyferry sets.

Source: docs/reference/upstream-driver.md#custom-resources
"""

from __future__ import annotations

from keyferry.kubernetes.objects import (
    DesiredSecret,
    Event,
    OwnerReference,
    PodRef,
    PodStatus,
    SecretKeyMapping,
    SecretObject,
    SecretProviderClass,
)
from keyferry.kubernetes.store import ObjectStore

__all__ = [
    "DesiredSecret",
    "Event",
    "ObjectStore",
    "OwnerReference",
    "PodRef",
    "PodStatus",
    "SecretKeyMapping",
    "SecretObject",
    "SecretProviderClass",
]
