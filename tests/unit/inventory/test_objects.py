"""`keyferry.inventory`: which pod has which version, and who uses a Secret."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from keyferry.inventory.objects import ClusterObjects, object_rows
from keyferry.inventory.users import SecretUser, secret_users

REFRESHED = "2026-01-02T03:04:05Z"
CHANGED = "2026-01-02T03:00:00.5+00:00"


def named(name: str, **rest: Any) -> dict[str, Any]:
    """An object of the namespace `shop`."""
    return {"metadata": {"name": name, "namespace": "shop"}, **rest}


def pod_status(*ids: str, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    """The pod status of the pod `web-1`."""
    status = {
        "podName": "web-1",
        "secretProviderClassName": "web",
        "targetPath": "/t",
        "objects": [{"id": id_, "version": "v1"} for id_ in ids],
        "lastRefreshTime": REFRESHED,
        "conditions": [condition] if condition else [],
    }
    return named("web-1-shop-web", status=status)


def spc(provider: str, objects: str, object_name: str) -> dict[str, Any]:
    """A SecretProviderClass whose Secret `db` has one object."""
    return {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        **named("web"),
        "spec": {
            "provider": provider,
            "parameters": {"objects": objects},
            "secretObjects": [
                {
                    "secretName": "db",
                    "type": "Opaque",
                    "data": [{"objectName": object_name, "key": "password"}],
                }
            ],
        },
    }


AZURE = "array:\n- |\n  objectName: db\n  objectType: secret\n  objectAlias: pw\n"
VAULT = "- {objectName: pw, secretPath: secret/data/db}"


def pod(started: str | None = "2026-01-02T02:00:00Z", **container: Any) -> dict[str, Any]:
    """The pod `web-1`, whose container has the Secret `db` in its environment."""
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]
    state = {"running": {"startedAt": started}} if started else {"waiting": {}}
    return named(
        "web-1",
        spec={"containers": [{"name": "c", "env": env, **container}]},
        status={"containerStatuses": [{"name": "c", "state": state}]},
    )


SECRET = named("db")
SECRET["metadata"]["annotations"] = {"keyferry.dev/fetched-at": CHANGED}


def test_row_has_version_and_time_of_the_refresh() -> None:
    """Without any other object."""
    failed = {"type": "Refreshed", "status": "False", "reason": "X", "message": "vault: no answer"}
    (row,) = object_rows(ClusterObjects((pod_status("secret/db", condition=failed),)))
    assert ("shop", "web-1", "web", "secret/db", "v1") == (
        row.namespace,
        row.pod,
        row.class_name,
        row.object,
        row.version,
    )
    assert datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) == row.refreshed_at
    assert ("vault: no answer", "", None) == (row.problem, row.environment, row.changed_at)


@pytest.mark.parametrize(
    ("manifest", "object_id"),
    [
        (spc("azure", AZURE, "pw"), "secret/db"),
        (spc("azure", AZURE, "db"), "secret/db"),
        (spc("azure", AZURE, "db.crt"), "secret/db"),
        (spc("azure", AZURE, "pw"), "contoso/secret/db"),
        (spc("azure", AZURE + "  objectVersionHistory: 2\n", "pw/0"), "secret/db/0"),
        (spc("azure", AZURE + "  objectVersion: abc\n", "pw"), "secret/db"),
        (spc("vault", VAULT, "pw"), "pw"),
    ],
)
@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("2026-01-02T02:59:59Z", "old"),
        ("2026-01-02T03:00:01Z", "current"),
        (None, ""),
    ],
)
def test_environment_is_compared_with_the_secret(
    manifest: dict[str, Any], object_id: str, started: str | None, expected: str
) -> None:
    """By the times of the container and of the last change of the Secret."""
    objects = ClusterObjects((pod_status(object_id),), (manifest,), (pod(started),), (SECRET,))
    (row,) = object_rows(objects)
    assert expected == row.environment
    changed = datetime.fromisoformat(CHANGED)
    assert (changed if expected == "old" else None) == row.changed_at


def test_environment_of_another_object_is_not_shown() -> None:
    """A similar name is another object."""
    manifest = spc("azure", AZURE, "pw")
    objects = ClusterObjects((pod_status("secret/mydb"),), (manifest,), (pod(),), (SECRET,))
    assert [""] == [row.environment for row in object_rows(objects)]


def test_objects_that_somebody_else_damaged_are_skipped() -> None:
    """The rest is shown."""
    junk: list[dict[str, Any]] = [
        {},
        {"metadata": 1},
        named("a", status=[]),
        named("b", status={"objects": {}}),
        named("c", spec={"containers": 7}, status={"containerStatuses": [1]}),
    ]
    good = pod_status("secret/db")
    objects = ClusterObjects((*junk, good), tuple(junk), tuple(junk), tuple(junk))
    assert ["secret/db"] == [row.object for row in object_rows(objects)]


def test_users_of_secrets() -> None:
    """All ways in which Kubernetes refers to one."""
    web = named(
        "web",
        spec={
            "initContainers": [{"envFrom": [{"secretRef": {"name": "a"}}, {"configMapRef": {}}]}],
            "containers": [
                {"env": [{"valueFrom": {"secretKeyRef": {"name": "b"}}}, {"value": "x"}]},
                {"env": [{"valueFrom": {"secretKeyRef": {"name": "b"}}}]},
            ],
            "volumes": [
                {"secret": {"secretName": "c"}},
                {"projected": {"sources": [{"secret": {"name": "d"}}, {"configMap": {}}]}},
                {"emptyDir": {}},
            ],
            "imagePullSecrets": [{"name": "e"}],
        },
    )
    account = named("default", imagePullSecrets=[{"name": "e"}])
    ingress = named("www", spec={"tls": [{"secretName": "f"}, {}]})
    assert [
        SecretUser("shop", "a", "Pod", "web", "environment"),
        SecretUser("shop", "b", "Pod", "web", "environment"),
        SecretUser("shop", "c", "Pod", "web", "volume"),
        SecretUser("shop", "d", "Pod", "web", "volume"),
        SecretUser("shop", "e", "Pod", "web", "image pull"),
        SecretUser("shop", "e", "ServiceAccount", "default", "image pull"),
        SecretUser("shop", "f", "Ingress", "www", "tls"),
    ] == secret_users([web], [account], [ingress])
