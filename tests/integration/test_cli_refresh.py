"""`keyferry refresh` over a Kubernetes API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cli import run_cli
from tests.fakes.kube_api import KubeApiServer, class_manifest, running_api
from tests.fakes.kube_objects import GKE_SYNCS
from tests.fakes.syncs import sync_manifest

MARK = "keyferry.dev/refresh"
ENDED = {"phase": "Succeeded"}
STATUSES = "secretproviderclasspodstatuses"


def pod_status(pod: str, **annotations: str) -> dict[str, Any]:
    """The pod status of a volume of the SecretProviderClass `web`."""
    return {
        "metadata": {"name": f"{pod}-shop-web", "namespace": "shop", "annotations": annotations},
        "status": {"podName": pod, "secretProviderClassName": "web", "objects": []},
    }


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A cluster with two pods of a SecretProviderClass."""
    async with running_api(tmp_path) as running:
        running.put("secretproviderclasses", class_manifest("web"))
        running.put("pods", {"metadata": {"name": "web-1", "namespace": "shop"}})
        for pod in ("web-1", "web-2"):
            running.put(STATUSES, pod_status(pod))
        running.put("secretsyncs", sync_manifest("db"))
        yield running


def _arguments(api: KubeApiServer, *more: str) -> tuple[str, ...]:
    return ("refresh", "--kubeconfig", str(api.kubeconfig), "-n", "shop", *more)


def mark_of(api: KubeApiServer, plural: str, name: str) -> str:
    """The annotation that the command has set; "" without one."""
    manifest = api.get(plural, "shop", name)
    assert manifest is not None
    return str(manifest["metadata"].get("annotations", {}).get(MARK, ""))


@pytest.mark.parametrize(
    ("arguments", "plural", "name", "shown"),
    [
        (("web",), "secretproviderclasses", "web", "secretproviderclass/web annotated\n"),
        (("spc/web",), "secretproviderclasses", "web", "secretproviderclass/web annotated\n"),
        (("--pod", "web-1"), "pods", "web-1", "pod/web-1 annotated\n"),
        (("pod/web-1",), "pods", "web-1", "pod/web-1 annotated\n"),
        (("secretsync/db",), "secretsyncs", "db", "secretsync/db annotated\n"),
    ],
)
async def test_annotation_is_set(
    api: KubeApiServer, arguments: tuple[str, ...], plural: str, name: str, shown: str
) -> None:
    """Each call sets another value."""
    first = await run_cli(*_arguments(api, *arguments))
    assert (0, shown, "") == (first.exit_code, first.stdout, first.stderr)
    mark = mark_of(api, plural, name)
    await run_cli(*_arguments(api, *arguments))
    assert "" != mark != mark_of(api, plural, name)


async def test_wait_ends_when_all_volumes_are_refreshed(api: KubeApiServer) -> None:
    """A line for each pod."""

    async def answer() -> None:
        while not (mark := mark_of(api, "secretproviderclasses", "web")):  # noqa: ASYNC110 - a server sends no notification
            await asyncio.sleep(0.01)
        for pod in ("web-1", "web-2"):
            api.put(STATUSES, pod_status(pod, **{"keyferry.dev/refreshed-for-class": mark}))

    done, _ = await asyncio.gather(run_cli(*_arguments(api, "web", "--wait")), answer())
    assert (0, "") == (done.exit_code, done.stderr)
    assert ["pod/web-1 refreshed", "pod/web-2 refreshed"] == done.stdout.splitlines()[1:]


async def test_wait_names_the_volumes_that_are_not_refreshed(api: KubeApiServer) -> None:
    """With the exit code of a vault that is too slow, and why the last refresh failed."""
    failed = pod_status("web-1")
    failed["status"]["conditions"] = [
        {"type": "Refreshed", "status": "False", "reason": "X", "message": "stage vault: denied"}
    ]
    api.put(STATUSES, failed)
    done = await run_cli(*_arguments(api, "web", "--wait", "--timeout", "100ms"))
    assert 4 == done.exit_code
    assert "error: pod/web-1 is not refreshed after 0.1 s: stage vault: denied\n" in done.stderr
    assert "error: pod/web-2 is not refreshed after 0.1 s\n" in done.stderr


async def test_completed_pods_are_not_waited_for(api: KubeApiServer) -> None:
    """The driver does not refresh their volumes."""
    api.put("pods", {"metadata": {"name": "web-1", "namespace": "shop"}, "status": ENDED})
    api.put("pods", {"metadata": {"name": "web-2", "namespace": "shop"}, "status": ENDED})
    done = await run_cli(*_arguments(api, "web", "--wait", "--timeout", "10s"))
    assert 0 == done.exit_code
    assert "no pod has a volume of it, and no SecretSync uses it\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: name a SecretProviderClass, a SecretSync as secretsync/NAME, or a pod with"),
        (("web", "--pod", "x"), "error: name a SecretProviderClass, a SecretSync as"),
        (("secretsync/x",), "error: there is no SecretSync x in namespace shop\nhint: Correct"),
        (("pod/web-9",), "error: there is no Pod web-9 in namespace shop"),
        (("deployment/web",), "error: 'deployment/web' is not the name of an object: write secr"),
        (("wbe",), "error: there is no SecretProviderClass wbe in namespace shop\nhint: Correct"),
        (("--pod", "web-9"), "error: there is no Pod web-9 in namespace shop"),
        (("web", "--wait", "--timeout", "soon"), "write a duration"),
    ],
)
async def test_mistakes_are_named(
    api: KubeApiServer, arguments: tuple[str, ...], message: str
) -> None:
    """And nothing is changed."""
    done = await run_cli(*_arguments(api, *arguments))
    assert 2 == done.exit_code
    assert message in done.stderr
    assert "" == mark_of(api, "secretproviderclasses", "web")
    assert "" == mark_of(api, "secretsyncs", "db")


async def test_a_missing_permission_is_named(api: KubeApiServer) -> None:
    """With what to grant."""
    api.forbidden.add("patch secretproviderclasses")
    done = await run_cli(*_arguments(api, "web"))
    assert 1 == done.exit_code
    assert "patch" in done.stderr
    assert "hint: " in done.stderr


# --- SecretSyncs ----------------------------------------------------------------------------------


def sync(name: str, ready: str = "True", observed: str = "", **more: Any) -> dict[str, Any]:
    """A SecretSync of the SecretProviderClass `web` with a status."""
    condition = {"type": "Ready", "status": ready, "reason": "X", "message": "vault: denied."}
    status = {"conditions": [condition], "observedRefresh": observed, **more}
    return {**sync_manifest(name, secretProviderClassName="web"), "status": status}


def set_status(
    api: KubeApiServer, name: str, observed: str, *, plural: str = "secretsyncs", **more: Any
) -> None:
    """Write the status of a SecretSync, as the controller does; its annotations stay."""
    live = api.get(plural, "shop", name)
    assert live is not None
    api.put(plural, {**sync(name, observed=observed, **more), "metadata": live["metadata"]})


async def refreshed(
    api: KubeApiServer, target: str, annotated: tuple[str, str], answer: str, **more: Any
) -> str:
    """Wait for the annotation, answer with the status, and return what the command printed."""

    async def respond() -> None:
        while not (mark := mark_of(api, *annotated)):  # noqa: ASYNC110 - a server sends no notification
            await asyncio.sleep(0.01)
        set_status(api, "db", answer.format(mark), **more)

    done, _ = await asyncio.gather(run_cli(*_arguments(api, target, "--wait")), respond())
    assert (0, "") == (done.exit_code, done.stderr)
    return done.stdout


async def test_wait_ends_when_the_secret_sync_is_refreshed(api: KubeApiServer) -> None:
    """`observedRefresh` has the annotations of the SecretSync and its SecretProviderClass."""
    shown = await refreshed(api, "secretsync/db", ("secretsyncs", "db"), "{}/of-the-class")
    assert "secretsync/db annotated\nsecretsync/db refreshed\n" == shown


async def test_secret_syncs_of_a_secret_provider_class_are_waited_for(api: KubeApiServer) -> None:
    """No driver is needed for them."""
    api.absent.add(STATUSES)
    set_status(api, "db", "")
    annotated = ("secretproviderclasses", "web")
    shown = await refreshed(api, "web", annotated, "of-the-secret-sync/{}")
    assert "secretproviderclass/web annotated\nsecretsync/db refreshed\n" == shown


@pytest.mark.parametrize(
    ("status", "about"),
    [
        ({"ready": "False"}, ": vault: denied."),
        ({}, ""),
        ({"syncHash": "kf1:x"}, ": its status has no observedRefresh. Check"),
    ],
)
async def test_wait_names_the_secret_sync_that_is_not_refreshed(
    api: KubeApiServer, status: dict[str, str], about: str
) -> None:
    """With the message of its condition."""
    set_status(api, "db", "", **status)
    for target in ("secretsync/db", "web"):
        arguments = _arguments(api, target, "--wait", "--timeout", "100ms")
        done = await run_cli(*arguments)
        assert 4 == done.exit_code
        assert f"error: secretsync/db is not refreshed after 0.1 s{about}" in done.stderr


async def test_a_secret_sync_that_failed_meanwhile_is_not_refreshed(api: KubeApiServer) -> None:
    """It answered, but it is no longer Ready."""

    async def respond() -> None:
        while not (mark := mark_of(api, "secretsyncs", "db")):  # noqa: ASYNC110 - a server sends no notification
            await asyncio.sleep(0.01)
        set_status(api, "db", f"{mark}/", ready="False")

    arguments = _arguments(api, "secretsync/db", "--wait", "--timeout", "2s")
    done, _ = await asyncio.gather(run_cli(*arguments), respond())
    assert 4 == done.exit_code
    assert "error: secretsync/db is not refreshed after 2 s: vault: denied.\n" == done.stderr


async def test_a_secret_sync_of_gke_is_annotated(api: KubeApiServer) -> None:
    """If upstream's group does not have it; the user may only change those of GKE."""
    api.put(GKE_SYNCS, sync_manifest("gke", api_version="secret-sync.gke.io/v1"))
    done = await run_cli(*_arguments(api, "secretsync/gke"))
    assert (0, "") == (done.exit_code, done.stderr)
    assert "" != mark_of(api, GKE_SYNCS, "gke")
    api.absent.add("secretsyncs")
    api.forbidden.add("patch secretsyncs")
    first = mark_of(api, GKE_SYNCS, "gke")
    done = await run_cli(*_arguments(api, "secretsync/gke"))
    assert (0, "") == (done.exit_code, done.stderr)
    assert first != mark_of(api, GKE_SYNCS, "gke")


async def test_a_missing_crd_is_named(api: KubeApiServer) -> None:
    """With how to install it."""
    api.absent |= {"secretsyncs", GKE_SYNCS}
    done = await run_cli(*_arguments(api, "secretsync/db"))
    assert 2 == done.exit_code
    assert done.stderr == (
        "error: the cluster has no SecretSyncs: their CRD is not installed\n"
        "hint: Install the controller with the chart: secretSync.enabled=true.\n"
    )


async def test_secret_syncs_that_may_not_be_listed_are_named(api: KubeApiServer) -> None:
    """An error if one is to be waited for, else a warning."""
    api.forbidden.add("list secretsyncs")
    done = await run_cli(*_arguments(api, "secretsync/db", "--wait", "--timeout", "100ms"))
    assert 1 == done.exit_code
    assert "hint: Ask for the verb list on secretsyncs.secret-sync.x-k8s.io" in done.stderr
    done = await run_cli(*_arguments(api, "web", "--wait", "--timeout", "100ms"))
    assert 4 == done.exit_code
    assert "warning: secretsyncs.secret-sync.x-k8s.io cannot be listed" in done.stderr
    assert ": SecretSyncs are not waited for\n" in done.stderr
