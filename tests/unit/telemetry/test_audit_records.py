"""The records of the audit log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.accesses import AccessOutcome, AccessSource, ObjectAccess, VaultAccess
from keyferry.content import ObjectVersion
from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    IdentityError,
    KeyferryError,
    ObjectNotFoundError,
    VolumeError,
)
from keyferry.telemetry.audit import ProcessAuditLog
from keyferry.telemetry.audit_records import AuditedMount, AuditSubject, record_groups
from tests.fakes.audit import RecordingAuditLog, checked_records
from tests.fakes.log import captured_log

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)
IDENTITY = (("mode", "WorkloadIdentity"), ("tenantID", "t"), ("clientID", "c"))
PREVIOUS = (ObjectVersion("secret/a", "v1"), ObjectVersion("secret/b", "v1b"))


def read(name: str, version: str = "v1", **fields: Any) -> ObjectAccess:
    """Return the access to an object that was read."""
    return ObjectAccess(
        name, AccessOutcome.DELIVERED, AccessSource.VAULT, version, seconds=0.0203, **fields
    )


def mount(
    *objects: ObjectAccess,
    event: str = "mount",
    error: BaseException | None = None,
    accesses: tuple[VaultAccess, ...] | None = None,
) -> AuditedMount:
    """Return a mount by the pod shop/web-0."""
    subject = AuditSubject(event, "shop", "web-0", "uid", "web", "web-secrets", "azure")
    if accesses is None:
        accesses = (VaultAccess("contoso.vault.azure.net", IDENTITY, objects),)
    return AuditedMount(subject, AT, accesses, error, PREVIOUS)


def records(audited: AuditedMount) -> list[dict[str, Any]]:
    """Return the records of a mount."""
    audit_log = RecordingAuditLog()
    audit_log.write(audited)
    return audit_log.records


def test_record_names_pod_identity_vault_object_and_outcome() -> None:
    """In this order, because people read it."""
    (record,) = records(mount(read("secret/a")))
    assert list(record.items()) == [
        ("timestamp", "2030-01-01T12:00:00.000000+00:00"),
        ("event", "mount"),
        ("pod", {"namespace": "shop", "name": "web-0"}),
        ("podUID", "uid"),
        ("serviceAccount", "web"),
        ("spc", {"namespace": "shop", "name": "web-secrets"}),
        ("provider", "azure"),
        ("vault", "contoso.vault.azure.net"),
        ("identity", {"mode": "WorkloadIdentity", "tenantID": "t", "clientID": "c"}),
        ("object", "secret/a"),
        ("version", "v1"),
        ("source", "vault"),
        ("outcome", "delivered"),
        ("durationMS", 20.3),
    ]


def test_each_object_has_one_record() -> None:
    """Also if there are 1,200."""
    objects = [read(f"secret/{number}") for number in range(1200)]
    assert [record["object"] for record in records(mount(*objects))] == [
        f"secret/{number}" for number in range(1200)
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (IdentityError("x"), "denied"),
        (AccessDeniedError("x"), "denied"),
        (ObjectNotFoundError("x"), "not-found"),
        (ConnectionFailedError("x"), "failed"),
        (ValueError("canary"), "failed"),
        (asyncio.CancelledError(), "failed"),
    ],
)
def test_mount_that_failed_before_any_access_has_one_record(
    error: BaseException, outcome: str
) -> None:
    """With the reason, but without the text of the error, which the log has."""
    (record,) = records(mount(error=error, accesses=()))
    assert record["outcome"] == outcome
    assert "vault" not in record
    assert "object" not in record


def test_cancelled_mount_has_a_reason_of_its_own() -> None:
    """Kubelet gave up, or the volume was unpublished."""
    (record,) = records(mount(error=asyncio.CancelledError(), accesses=()))
    assert record["reason"] == "Cancelled"


def test_read_object_of_a_failed_mount_is_not_delivered() -> None:
    """Its record has the reason of the mount; an object that failed keeps its own."""
    missing = ObjectAccess(
        "secret/b", AccessOutcome.NOT_FOUND, reason="GRPCProviderError", stage="object"
    )
    first, second = records(mount(read("secret/a"), missing, error=VolumeError("x")))
    assert (first["outcome"], first["stage"]) == ("not-delivered", "volume")
    assert (second["outcome"], second["stage"]) == ("not-found", "object")


def test_long_names_are_cut() -> None:
    """A SecretProviderClass may name a path of any length."""
    (record,) = records(mount(read("p" * 5000, "v" * 5000)))
    assert len(record["object"]) == len(record["version"]) == 1024


def test_unknown_field_of_an_identity_is_dropped() -> None:
    """It could contain a line break, which the text log does not quote in the name of a field."""
    identity = (("mode", "x"), ("a\nE0101 fake]", "y"))
    audited = mount(accesses=(VaultAccess("contoso", identity, (read("secret/a"),)),))
    assert len(logged(audited, as_json=False).splitlines()) == 1
    assert records(audited)[0]["identity"] == {"mode": "x"}


def unchanged(audited: AuditedMount) -> list[object]:
    """Return the objects whose records say that a refresh found the same version."""
    return [record["object"] for group in record_groups(audited) for record in group.unchanged]


def test_refresh_recognizes_versions_that_the_volume_has() -> None:
    """By the version, or by the entries of the pod status that the provider names."""
    known = read("kv/a", "7", status_versions=(("secret/a", "v1"), ("secret/b", "v1b")))
    changed = read("kv/b", "8", status_versions=(("secret/a", "v1"), ("secret/b", "v2")))
    objects = (read("secret/a"), read("secret/c", "v3"), known, changed)
    assert unchanged(mount(*objects, event="refresh")) == ["secret/a", "kv/a"]


@pytest.mark.parametrize("error", [None, VolumeError("x")])
def test_mount_has_no_unchanged_records(error: KeyferryError | None) -> None:
    """The volume had nothing before."""
    assert not unchanged(mount(read("secret/a"), error=error))


def test_failed_refresh_has_news_only_of_the_objects_that_failed() -> None:
    """It is repeated every interval, and the volume keeps its content."""
    denied = ObjectAccess("secret/b", AccessOutcome.DENIED, AccessSource.VAULT)
    objects = (read("secret/a"), denied, read("secret/c", "v3"))
    refresh = mount(*objects, event="refresh", error=AccessDeniedError("x"))
    assert unchanged(refresh) == ["secret/a", "secret/c"]
    assert [record["outcome"] for record in records(refresh)] == [
        "denied", "not-delivered", "not-delivered",
    ]  # fmt: skip


# --- The log of the process -----------------------------------------------------------------------


def logged(audited: AuditedMount, *, as_json: bool, verbosity: int = 0) -> str:
    """Return what is logged for a mount."""
    with captured_log(as_json=as_json, verbosity=verbosity) as log:
        ProcessAuditLog().write(audited)
    return log.getvalue()


def test_text_log_has_one_line_per_record() -> None:
    """Fields of a mapping have a dot in their name."""
    lines = logged(mount(read("secret/a"), read("secret/b")), as_json=False).splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(
        ' audit] "secret access" event="mount" pod="shop/web-0" podUID="uid" serviceAccount="web"'
        ' spc="shop/web-secrets" provider="azure" vault="contoso.vault.azure.net"'
        ' identity.mode="WorkloadIdentity" identity.tenantID="t" identity.clientID="c"'
        ' object="secret/a" version="v1" source="vault" outcome="delivered" durationMS="20.3"'
    )


def test_json_log_has_the_fields_of_a_record() -> None:
    """In addition to level, caller and message."""
    text = logged(mount(read("secret/a")), as_json=True)
    head = '{"level": "info", "caller": "audit", "message": "secret access", '
    assert text.startswith(head)
    assert checked_records("{" + text.removeprefix(head)) == records(mount(read("secret/a")))


@pytest.mark.parametrize(
    ("verbosity", "objects"), [(0, ["secret/c"]), (2, ["secret/c", "secret/a"])]
)
def test_refresh_logs_unchanged_objects_only_in_detail(verbosity: int, objects: list[str]) -> None:
    """Nothing periodic is logged at -v=0."""
    refresh = mount(read("secret/a"), read("secret/c", "v3"), event="refresh")
    text = logged(refresh, as_json=False, verbosity=verbosity)
    assert [
        line.partition(' object="')[2].partition('"')[0] for line in text.splitlines()
    ] == objects


def test_names_cannot_break_a_line() -> None:
    """Neither in text nor in JSON."""
    audited = mount(read('secret/a" outcome="x\nE0101 fake]'))
    assert len(logged(audited, as_json=False).splitlines()) == 1
    assert len(records(audited)) == 1
