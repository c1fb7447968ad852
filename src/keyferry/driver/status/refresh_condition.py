"""Builds the `Refreshed` condition of a pod status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.driver.status.missing_object_reporter import missing_note
from keyferry.kubernetes.objects import RefreshCondition, truncate_message

if TYPE_CHECKING:
    from datetime import datetime

    from keyferry.driver.volumes.volume_table import Volume
    from keyferry.errors import KeyferryError


def fetched_condition(volume: Volume, now: datetime) -> RefreshCondition:
    """Return the condition of a volume whose content was fetched."""
    note = truncate_message(missing_note(volume.missing))
    reason = "ObjectMissing" if note else "Refreshed"
    return RefreshCondition(volume.fetched_at, now, reason, note=note)


def failed_condition(error: KeyferryError, now: datetime) -> RefreshCondition:
    """Return the condition of a volume whose refresh failed; the last refresh stays as it was."""
    detail = f" ({error.detail})" if error.detail else ""
    message = f"stage {error.stage.value}: {error}{detail}"
    return RefreshCondition(
        refreshed_at=None,
        transitioned_at=now,
        reason=type(error).__name__.removesuffix("Error"),
        message=truncate_message(message),
    )
