"""What the driver and the SecretSync controller have reported is part of a diagnosis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from keyferry.doctor.checks import Check, DoctorStage, Status, ok
from keyferry.doctor.preparation import Prepared
from keyferry.doctor.reported import old_environment, reported_by_controller, reported_by_driver
from keyferry.kubernetes.api.client import KubeApi, open_api
from keyferry.kubernetes.api.config import load_config
from keyferry.kubernetes.class_codec import parse_class
from keyferry.kubernetes.live_secret import FETCHED_AT_ANNOTATION
from keyferry.kubernetes.markings import MANAGED_LABEL
from keyferry.kubernetes.objects import Pod, SecretProviderClass
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.groups import UPSTREAM_GROUP
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.syncs import served, sync_manifest

UID = "u-1"
MESSAGE = "failed to write secret db of spc shop/web, err: quota few is exceeded. Raise the quota"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    async with running_api(tmp_path) as running:
        yield running


@pytest.fixture
async def api(server: KubeApiServer) -> AsyncIterator[KubeApi]:
    async with open_api(load_config(server.kubeconfig)) as opened:
        yield opened


def waiting(phase: str) -> Pod:
    """The pod in this phase."""
    return Pod("shop", "web", UID, phase=phase)


def put_event(
    server: KubeApiServer, message: str, *, uid: str = UID, reason: str = "FailedToCreateSecret"
) -> None:
    """Record an event of the driver on a pod."""
    server.put(
        "events",
        {
            "metadata": {"name": f"event-{uid}-{reason.lower()}", "namespace": "shop"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web", "uid": uid},
            "reason": reason,
            "message": message,
        },
    )


def put_secret(server: KubeApiServer, **labels: str) -> None:
    """Create the Secret of the SecretProviderClass."""
    metadata = {"name": "db", "namespace": "shop", "labels": labels}
    server.put("secrets", {"metadata": metadata, "type": "Opaque"})


def spc(*names: str) -> SecretProviderClass:
    """A SecretProviderClass with these Secrets."""
    entries = [{"secretName": name, "type": "Opaque", "data": []} for name in names]
    manifest: dict[str, Any] = {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"provider": "azure", "parameters": {}, "secretObjects": entries},
    }
    return parse_class(manifest, default_namespace="shop")


async def test_a_secret_that_was_refused_is_reported(server: KubeApiServer, api: KubeApi) -> None:
    """With the remedy of the event; another pod is of no interest."""
    put_event(server, MESSAGE)
    put_event(server, MESSAGE.replace("few", "other"), uid="u-2")
    (check,) = await reported_by_driver(api, waiting("Running"), spc("db"))
    assert (DoctorStage.SECRET, "db", Status.FAILED) == (check.stage, check.subject, check.status)
    assert check.problem.endswith("quota few is exceeded")
    assert "Raise the quota" == check.remedy


@pytest.mark.parametrize("labels", [{}, {"secrets-store.csi.k8s.io/managed": "true"}])
async def test_a_secret_that_exists_meanwhile_is_not_reported(
    server: KubeApiServer, api: KubeApi, labels: dict[str, str]
) -> None:
    """Events outlive their cause; a Secret of somebody else is still the cause."""
    put_event(server, MESSAGE)
    put_secret(server, **labels)
    found = await reported_by_driver(api, waiting("Running"), spc("db"))
    assert bool(labels) == (not found)


@pytest.mark.parametrize("denied", ["list events", "list secrets"])
async def test_a_missing_right_hides_reports_only(
    server: KubeApiServer, api: KubeApi, denied: str
) -> None:
    """The other stages remain of use."""
    put_event(server, MESSAGE)
    server.forbidden.add(denied)
    assert () == await reported_by_driver(api, waiting("Running"), spc("db"))


def failed_sync(reason: str, *, is_opted_in: bool = True, **more: Any) -> tuple[Check, ...]:
    """What is reported of a SecretSync whose last attempt failed."""
    condition = {"type": "Ready", "status": "False", "reason": reason, "message": "no. Do it."}
    manifest = served(sync_manifest("web"), conditions=[{**condition, **more}])
    return reported_by_controller(parse_sync(manifest, UPSTREAM_GROUP), is_opted_in=is_opted_in)


@pytest.mark.parametrize(
    ("reason", "stage"),
    [
        ("ControllerPatchError", DoctorStage.SECRET),
        ("ControllerSyncError", DoctorStage.SECRET),
        ("SecretProviderClassMisconfigured", DoctorStage.PARAMETERS),
        ("ProviderError", DoctorStage.VAULT),
        ("SomethingNew", DoctorStage.SECRET),
    ],
)
def test_the_condition_of_a_secret_sync_is_reported(reason: str, stage: DoctorStage) -> None:
    """In the stage that its reason belongs to."""
    (check,) = failed_sync(reason)
    assert (stage, "no", "Do it.") == (check.stage, check.problem, check.remedy)
    assert () == failed_sync(reason, status="True")


def test_a_service_account_may_lack_the_label() -> None:
    """The condition alone does not say so."""
    (check,) = failed_sync("ControllerSyncError", is_opted_in=False)
    assert DoctorStage.SERVICE_ACCOUNT is check.stage


def test_reports_count_only_if_no_check_fails() -> None:
    """What a diagnosis finds by itself is more exact."""
    (report,) = failed_sync("ControllerPatchError")
    good = ok(DoctorStage.RENDERING, "the volume", {"files": "1"})
    bad = Check(DoctorStage.OBJECT, "db", Status.FAILED, problem="missing")
    prepared = Prepared("secretsync/web", (), reported=(report,))
    assert report == prepared.report([good]).broken
    assert bad == prepared.report([good, bad]).broken


def pod(started: str) -> dict[str, Any]:
    """A pod whose container has the Secret in its environment since this moment."""
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]
    state = {"running": {"startedAt": started}}
    return {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [{"name": "c", "env": env}]},
        "status": {"containerStatuses": [{"name": "c", "state": state}]},
    }


@pytest.mark.parametrize(
    ("started", "is_old"), [("2026-01-01T00:00:00Z", True), ("2026-01-03T00:00:00Z", False)]
)
async def test_an_old_environment_is_reported(
    server: KubeApiServer, api: KubeApi, started: str, is_old: bool
) -> None:
    """With the command that restarts the pod."""
    labels = {MANAGED_LABEL: "true"}
    changed = {FETCHED_AT_ANNOTATION: "2026-01-02T00:00:00Z"}
    metadata = {"name": "db", "namespace": "shop", "labels": labels, "annotations": changed}
    server.put("secrets", {"metadata": metadata, "type": "Opaque"})
    checks = await old_environment(api, "shop", "web", pod(started), lambda _: 1)
    assert is_old == bool(checks)
    for check in checks:
        assert (DoctorStage.ENVIRONMENT, "db") == (check.stage, check.subject)
        assert "kubectl delete pod web --namespace shop" in check.remedy
    server.forbidden.add("list secrets")
    assert () == await old_environment(api, "shop", "web", pod(started), lambda _: 1)


@pytest.mark.parametrize(("phase", "counts"), [("Pending", True), ("Running", False)])
async def test_a_mount_that_fails_only_on_the_node_is_reported(
    server: KubeApiServer, api: KubeApi, phase: str, counts: bool
) -> None:
    """Until the pod starts; a Secret that is refused proves that the volume is mounted."""
    message = "failed to mount the objects of spc shop/web, err: no route. Permit it"
    put_event(server, message, reason="FailedToMountObjects")
    found = await reported_by_driver(api, waiting(phase), spc("db"))
    assert [DoctorStage.RENDERING] * counts == [each.stage for each in found]
    assert ["Permit it"] * counts == [each.remedy for each in found]
    put_event(server, MESSAGE)
    (refused,) = await reported_by_driver(api, waiting(phase), spc("db"))
    assert DoctorStage.SECRET is refused.stage
