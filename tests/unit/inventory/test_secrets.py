"""`keyferry.inventory.secrets`: what defines a Secret, and who would miss it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.inventory.secrets import ManagedSecret, SecretRow, managed_secrets, secret_rows
from keyferry.inventory.users import secret_users
from tests.unit.inventory.test_objects import named, pod

WRITTEN = "2026-01-02T03:00:00Z"
AT = datetime(2026, 1, 2, 3, tzinfo=UTC)


def metadata(name: str, **fields: Any) -> dict[str, Any]:
    """The metadata of a Secret."""
    return {"metadata": {"name": name, "namespace": "shop", **fields}}


def written(*times: str, field: str = "f:data") -> list[dict[str, Any]]:
    """The field managers that wrote a Secret."""
    return [{"time": each, "fieldsV1": {field: {"f:password": {}}}} for each in times]


def of_sync(name: str = "db", **fields: Any) -> dict[str, Any]:
    """The Secret of a SecretSync."""
    owner = {"apiVersion": "x/v1", "kind": "SecretSync", "name": name, "uid": "1"}
    labels = {"secrets-store.sync.x-k8s.io": ""}
    return metadata(name, labels=labels, ownerReferences=[owner], **fields)


def of_class(**annotations: str) -> dict[str, Any]:
    """The Secret of a SecretProviderClass."""
    labels = {"secrets-store.csi.k8s.io/managed": "true"}
    return metadata("db", labels=labels, annotations=annotations)


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (of_sync(), ("SecretSync", "db", None)),
        (of_sync(managedFields=written(WRITTEN)), ("SecretSync", "db", AT)),
        (
            of_sync(managedFields=written("2026-01-01T00:00:00Z", WRITTEN)),
            ("SecretSync", "db", AT),
        ),
        (of_sync(managedFields=written(WRITTEN, field="f:metadata")), ("SecretSync", "db", None)),
        (
            of_class(**{"keyferry.dev/class": "web", "keyferry.dev/fetched-at": WRITTEN}),
            ("SecretProviderClass", "web", AT),
        ),
        (of_class(), ("SecretProviderClass", "", None)),
        (
            metadata("db", labels=1, managedFields=[1, {"time": 2}]),
            ("SecretProviderClass", "", None),
        ),
    ],
)
def test_metadata_names_what_defines_a_secret(
    manifest: dict[str, Any], expected: tuple[str, str, datetime | None]
) -> None:
    """And the field managers say when its data changed."""
    assert [ManagedSecret("shop", "db", *expected)] == managed_secrets([manifest])


def test_secrets_are_sorted_and_listed_once() -> None:
    """A Secret with both labels is in both lists."""
    found = managed_secrets([of_sync("b"), of_sync("a"), of_sync("b")])
    assert ["a", "b"] == [each.name for each in found]


@pytest.mark.parametrize(
    ("started", "changed_at", "expected"),
    [
        ("2026-01-02T02:59:59Z", AT, "old"),
        ("2026-01-02T03:00:00Z", AT, "current"),
        ("2026-01-02T02:59:59Z", None, ""),
        (None, AT, ""),
    ],
)
def test_environment_of_a_pod_is_compared_with_the_secret(
    started: str | None, changed_at: datetime | None, expected: str
) -> None:
    """By the start of the container and the last change of the data."""
    secret = ManagedSecret("shop", "db", "SecretSync", "db", changed_at)
    pods = [pod(started)]
    assert [SecretRow(secret, "Pod", "web-1", "environment", expected)] == secret_rows(
        [secret], secret_users(pods), pods
    )


def test_volumes_are_not_compared_and_unused_secrets_have_a_row() -> None:
    """Kubelet updates files; nobody would miss the other Secret."""
    used, unused = (ManagedSecret("shop", name, "SecretSync", name, AT) for name in ("db", "x"))
    pods = [named("web-1", spec={"volumes": [{"secret": {"secretName": "db"}}]})]
    assert [
        SecretRow(used, "Pod", "web-1", "volume"),
        SecretRow(unused, "", "", "unused"),
    ] == secret_rows([used, unused], secret_users(pods), pods)
