"""The record of a leader election in a Lease, in the form of client-go. [pure]

Source: https://github.com/kubernetes/client-go/blob/master/tools/leaderelection/leaderelection.go
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.fields import Field, FieldTypeError

if TYPE_CHECKING:
    from keyferry.formats.kubernetes_yaml import Value
    from keyferry.kubernetes.object_codec import Manifest

MAX_SECONDS = 3600
"""A longer duration in a Lease counts as this one, so that a wrong one does not lock it forever."""


class LeaseTiming(Struct, frozen=True):
    """The times of a leader election, in seconds.

    Attributes:
        duration: candidates wait for this time since the last renewal that they saw.
        renew_deadline: a leader that could not renew for this time gives up. What it does then must
            end within `duration`.
        retry: between two renewals or attempts.
    """

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0


class LeaseRecord(Struct, frozen=True):
    """The spec of a Lease. Its times are of the holder's clock, so they are only compared.

    Attributes:
        holder: "" if nobody holds it.
        seconds: `leaseDurationSeconds`; 0 if it is not set.
        acquired: `acquireTime`; may be "".
        renewed: `renewTime`; may be "".
        transitions: how often the holder changed.
    """

    holder: str
    seconds: int
    acquired: str
    renewed: str
    transitions: int


NO_RECORD = LeaseRecord("", 0, "", "", 0)


def parse_lease(manifest: Value) -> LeaseRecord:
    """Return the record of a Lease; one without a holder if it is not a Lease."""
    spec = Field(manifest)["spec"] if isinstance(manifest, dict) else Field(None)
    try:
        return LeaseRecord(
            holder=spec["holderIdentity"].text(),
            seconds=min(spec["leaseDurationSeconds"].number(), MAX_SECONDS),
            acquired=spec["acquireTime"].text(),
            renewed=spec["renewTime"].text(),
            transitions=spec["leaseTransitions"].number(),
        )
    except FieldTypeError:
        return NO_RECORD


def next_record(
    before: LeaseRecord, identity: str, *, seconds: float, now: datetime
) -> LeaseRecord:
    """Return the record with which a candidate acquires or renews a Lease."""
    stamp = micro_time(now)
    is_renewal = before.holder == identity
    return LeaseRecord(
        holder=identity,
        seconds=max(int(seconds), 1),
        acquired=before.acquired if is_renewal else stamp,
        renewed=stamp,
        transitions=before.transitions + (0 if is_renewal or before == NO_RECORD else 1),
    )


def released_record(before: LeaseRecord, *, now: datetime) -> LeaseRecord:
    """Return the record of a Lease that nobody holds, as client-go writes it."""
    stamp = micro_time(now)
    return LeaseRecord("", 1, stamp, stamp, before.transitions)


def with_record(manifest: Manifest, record: LeaseRecord) -> Manifest:
    """Return a Lease with another record; its other fields are kept."""
    spec: Manifest = {
        **Field(manifest)["spec"].mapping(),
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.seconds,
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }
    return {**manifest, "spec": spec}


def micro_time(moment: datetime) -> str:
    """Return a time with microseconds, as Kubernetes writes it in a Lease."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
