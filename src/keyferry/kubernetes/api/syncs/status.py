"""Writes the status of a SecretSync."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.kubernetes.api.api_errors import ApiConflictError, ApiNotFoundError
from keyferry.kubernetes.api.syncs.resources import sync_status_resource
from keyferry.kubernetes.syncs.codec import status_patch

if TYPE_CHECKING:
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncStatus


async def write_status(api: KubeApi, sync: SecretSync, status: SyncStatus) -> bool:
    """Write the status of a SecretSync.

    Only the fields of `SyncStatus` are written. Conditions are a list, so those that another writer
    has added since `sync` was read are lost.

    Args:
        api: the Kubernetes API.
        sync: whose status it is.
        status: all of it.

    Returns:
        False if the SecretSync was deleted, or created again.

    Raises:
        StoreError: the API is unavailable, or rejects the status.
    """
    ref = sync.ref
    patch: Manifest = {"metadata": {"uid": ref.uid}, **status_patch(status)}
    try:
        await api.json_merge(sync_status_resource(ref.group), ref.namespace, ref.name, patch)
    except (ApiNotFoundError, ApiConflictError):
        return False
    return True
