"""`keyferry.inventory.syncs`: which version the Secret of a SecretSync has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.inventory.syncs import NOT_YET_HANDLED, SyncRow, parse_syncs, sync_rows
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP
from tests.fakes.syncs import served, sync_manifest

SYNCED = "2030-01-01T12:00:00Z"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def ready(status: str = "True", reason: str = "SecretUpToDate", **more: Any) -> dict[str, Any]:
    """The condition Ready."""
    return {"type": "Ready", "status": status, "reason": reason, "observedGeneration": 3, **more}


def sync(name: str = "web", *objects: dict[str, str], **condition: Any) -> dict[str, Any]:
    """A SecretSync with a status."""
    return served(
        sync_manifest(name),
        objects=list(objects),
        lastSuccessfulSyncTime=SYNCED,
        conditions=[ready(**condition)],
    )


def rows(*manifests: dict[str, Any]) -> list[SyncRow]:
    return sync_rows(parse_syncs((UPSTREAM_GROUP, each) for each in manifests))


def test_each_object_of_a_secret_sync_has_a_row() -> None:
    """Sorted, with its expiry and the time of the last success."""
    expiring = {"id": "secret/db", "version": "v2", "expires": SYNCED}
    found = rows(sync("web", expiring, {"id": "key/a", "version": "v1"}), sync("api"))
    common = ("shop", "web", "vault", "web")
    assert [
        SyncRow("shop", "api", "vault", "web", "", "", None, NOON, "True", "SecretUpToDate"),
        SyncRow(*common, "key/a", "v1", None, NOON, "True", "SecretUpToDate"),
        SyncRow(*common, "secret/db", "v2", NOON, NOON, "True", "SecretUpToDate"),
    ] == found


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ({}, ""),
        ({"status": "False", "reason": "ProviderError", "message": "denied"}, "denied"),
        ({"status": "False", "reason": "ProviderError"}, "ProviderError"),
        ({"status": "Unknown", "reason": "Pending", "message": "Waiting."}, "Waiting."),
        ({"observedGeneration": 2}, NOT_YET_HANDLED),
        ({"observedGeneration": 0}, ""),
    ],
)
def test_problem_is_the_message_of_the_condition(condition: dict[str, Any], problem: str) -> None:
    """Or that the controller has not seen the last change."""
    (row,) = rows(sync("web", **condition))
    assert problem == row.problem


def test_secret_sync_of_another_controller_has_a_row() -> None:
    """Without the condition Ready, nothing is known."""
    (row,) = rows(served(sync_manifest(), syncHash="abc", lastSuccessfulSyncTime=SYNCED))
    assert ("", "", "", NOON) == (row.ready, row.reason, row.problem, row.synced_at)


def test_secret_syncs_are_sorted_and_damaged_ones_skipped() -> None:
    """Those that are being deleted are skipped, too."""
    leaving = sync("leaving")
    leaving["metadata"]["deletionTimestamp"] = SYNCED
    pairs = [
        (UPSTREAM_GROUP, sync("b")),
        (UPSTREAM_GROUP, leaving),
        (UPSTREAM_GROUP, {"metadata": 1}),
        (UPSTREAM_GROUP, {}),
        (GKE_GROUP, sync("a")),
    ]
    assert ["a", "b"] == [each.ref.name for each in parse_syncs(pairs)]
