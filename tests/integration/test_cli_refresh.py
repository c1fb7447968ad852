"""`keyferry refresh` over a Kubernetes API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cli import run_cli
from tests.fakes.kube_api import KubeApiServer, class_manifest, running_api

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
        (("--pod", "web-1"), "pods", "web-1", "pod/web-1 annotated\n"),
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
    assert "no pod has a volume of it" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: name a SecretProviderClass, or a pod with --pod"),
        (("web", "--pod", "x"), "error: name a SecretProviderClass, or a pod with --pod"),
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


async def test_a_missing_permission_is_named(api: KubeApiServer) -> None:
    """With what to grant."""
    api.forbidden.add("patch secretproviderclasses")
    done = await run_cli(*_arguments(api, "web"))
    assert 1 == done.exit_code
    assert "patch" in done.stderr
    assert "hint: " in done.stderr
