"""keyferry.kubernetes.syncs.lease: the record of a leader election."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.kubernetes.syncs.lease import (
    MAX_SECONDS,
    NO_RECORD,
    LeaseRecord,
    next_record,
    parse_lease,
    released_record,
    with_record,
)

NOON = datetime(2030, 1, 1, 12, 0, 0, 42, tzinfo=UTC)
STAMP = "2030-01-01T12:00:00.000042Z"
THEIRS = LeaseRecord("b", 15, "2029-01-01T00:00:00.000000Z", "2029-01-01T00:00:02.000000Z", 3)


def lease(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x", "resourceVersion": "7"}, "spec": {"strategy": "s", **spec}}


def test_record_survives_writing_and_reading() -> None:
    """With the fields of others, and the resourceVersion that makes the write conditional."""
    written = with_record(lease(), THEIRS)
    assert parse_lease(written) == THEIRS
    assert written["metadata"] == {"name": "x", "resourceVersion": "7"}
    assert written["spec"]["strategy"] == "s"  # type: ignore[call-overload,index]


def test_first_holder_is_no_transition() -> None:
    """As in client-go."""
    record = next_record(NO_RECORD, "a", seconds=15.0, now=NOON)
    assert record == LeaseRecord("a", 15, STAMP, STAMP, 0)


def test_renewal_keeps_when_it_was_acquired() -> None:
    """Only the time of the renewal changes."""
    record = next_record(THEIRS, "b", seconds=15.0, now=NOON)
    assert record == LeaseRecord("b", 15, THEIRS.acquired, STAMP, 3)


def test_another_holder_is_a_transition() -> None:
    """Also after a release."""
    assert next_record(THEIRS, "a", seconds=15.0, now=NOON).transitions == 4
    released = released_record(THEIRS, now=NOON)
    assert released == LeaseRecord("", 1, STAMP, STAMP, 3)
    assert next_record(released, "a", seconds=15.0, now=NOON).transitions == 4


def test_short_duration_is_at_least_a_second() -> None:
    """The API server rejects 0."""
    assert next_record(NO_RECORD, "a", seconds=0.2, now=NOON).seconds == 1


@pytest.mark.parametrize("manifest", [None, "x", {}, {"spec": []}, lease(holderIdentity=3)])
def test_something_else_than_a_lease_has_no_holder(manifest: Any) -> None:
    """A candidate can take it."""
    assert parse_lease(manifest) == NO_RECORD


def test_duration_of_a_lease_is_bounded() -> None:
    """A mistake does not stop the controller for days."""
    assert parse_lease(lease(leaseDurationSeconds=10**6)).seconds == MAX_SECONDS
