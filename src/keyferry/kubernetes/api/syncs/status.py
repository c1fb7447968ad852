"""Writes the status of a SecretSync."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.kubernetes.api.api_errors import ApiConflictError, ApiNotFoundError
from keyferry.kubernetes.api.syncs.resources import sync_resource, sync_status_resource
from keyferry.kubernetes.api.write_check import permit_write
from keyferry.kubernetes.syncs.codec import parse_sync, status_patch
from keyferry.kubernetes.syncs.conditions import with_conditions_of_others
from keyferry.records import replace

if TYPE_CHECKING:
    from keyferry.kubernetes.api.client import KubeApi
    from keyferry.kubernetes.api.write_check import WriteCheck
    from keyferry.kubernetes.object_codec import Manifest
    from keyferry.kubernetes.syncs.objects import SecretSync, SyncStatus

STATUS_ATTEMPTS = 5
"""Attempts to write the status of a SecretSync that changes between read and write."""


async def write_status(
    api: KubeApi, sync: SecretSync, status: SyncStatus, check_write: WriteCheck = permit_write
) -> SecretSync | None:
    """Write the status of a SecretSync, with one request if nobody has changed it since.

    The write depends on the resourceVersion, for two reasons: a SecretSync that was deleted and
    created again must not get the status of its predecessor (the API server ignores a uid in the
    patch of a status), and conditions of other writers, which share the list, must be kept.

    Args:
        api: the Kubernetes API.
        sync: whose status it is.
        status: the new status.
        check_write: of each attempt: one that was in conflict may be that of a former leader.

    Returns:
        The SecretSync as it now is, for `SyncCache.upsert_status`; None if it was deleted.

    Raises:
        StoreError: the API is unavailable, or rejects the status.
    """
    ref, live = sync.ref, sync
    for attempt in range(STATUS_ATTEMPTS):
        conditions = with_conditions_of_others(status.conditions, live.status.conditions)
        version: Manifest = {"resourceVersion": live.resource_version}
        patch = {"metadata": version, **status_patch(replace(status, conditions=conditions))}
        try:
            answer = await api.json_merge(
                sync_status_resource(ref.group),
                ref.namespace,
                ref.name,
                patch,
                check_write=check_write,
            )
            return parse_sync(answer, ref.group)
        except ApiNotFoundError:
            return None
        except ApiConflictError:
            if attempt == STATUS_ATTEMPTS - 1:
                raise
        found = await api.find(sync_resource(ref.group), ref.namespace, ref.name)
        if found is None or (live := parse_sync(found, ref.group)).ref.uid != ref.uid:
            return None
    raise AssertionError("unreachable")
