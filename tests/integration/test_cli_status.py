"""`keyferry status` over a Kubernetes API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cli import run_cli
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.unit.inventory.test_objects import AZURE, SECRET, pod, pod_status, spc

CANARY = "canary-51f0"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A cluster with one pod whose environment is old."""
    async with running_api(tmp_path) as running:
        running.put("secretproviderclasspodstatuses", _labelled(pod_status("secret/db")))
        running.put("secretproviderclasses", spc("azure", AZURE, "pw"))
        running.put("pods", pod())
        secret = {**SECRET, "data": {"password": CANARY}, "type": "Opaque"}
        running.put("secrets", _labelled(secret))
        running.put("serviceaccounts", {"metadata": {"name": "default", "namespace": "shop"}})
        yield running


def _labelled(manifest: dict[str, Any]) -> dict[str, Any]:
    labels = {
        "secrets-store.csi.k8s.io/managed": "true",
        "internal.secrets-store.csi.k8s.io/node-name": "node-1",
    }
    return {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}


def _arguments(api: KubeApiServer, *more: str) -> tuple[str, ...]:
    return ("status", "--kubeconfig", str(api.kubeconfig), *more)


async def test_table_shows_versions_and_old_environments(api: KubeApiServer) -> None:
    """Of one namespace, without it; `wide` adds the node."""
    done = await run_cli(*_arguments(api, "-n", "shop"))
    assert (0, "") == (done.exit_code, done.stderr)
    heading, row = done.stdout.splitlines()
    assert ["POD", "CLASS", "OBJECT", "VERSION", "ENVIRONMENT"] == heading.split()[:5]
    assert ["web-1", "web", "secret/db", "v1", "old"] == row.split()[:5]
    wide = await run_cli(*_arguments(api, "-A", "-o", "wide"))
    assert "NAMESPACE" in wide.stdout
    assert "node-1" in wide.stdout


async def test_json_has_all_fields_and_no_value(api: KubeApiServer) -> None:
    """For programs; of Secrets only the metadata is read."""
    done = await run_cli(*_arguments(api, "-A", "-o", "json"))
    (row,) = json.loads(done.stdout)
    assert {
        "namespace": "shop",
        "pod": "web-1",
        "secretProviderClass": "web",
        "object": "secret/db",
        "version": "v1",
        "environment": "old",
        "environmentOldSince": "2026-01-02T03:00:00+00:00",
        "refreshedAt": "2026-01-02T03:04:05+00:00",
        "node": "node-1",
        "problem": "",
    } == row
    assert CANARY not in done.stdout + done.stderr


async def test_users_of_secrets_are_listed(api: KubeApiServer) -> None:
    """Also the Secrets that nobody uses."""
    unused = {"metadata": {"name": "x", "namespace": "shop"}, "type": "Opaque"}
    api.put("secrets", _labelled(unused))
    done = await run_cli(*_arguments(api, "-n", "shop", "--by", "secret"))
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [
        ["SECRET", "USAGE", "KIND", "NAME"],
        ["db", "environment", "Pod", "web-1"],
        ["x", "unused", "-", "-"],
    ] == rows


@pytest.mark.parametrize("plural", ["secrets", "pods", "secretproviderclasses"])
async def test_a_missing_permission_is_a_warning(api: KubeApiServer, plural: str) -> None:
    """The versions in volumes are shown without it."""
    api.forbidden.add(f"list {plural}")
    done = await run_cli(*_arguments(api, "-A"))
    assert 0 == done.exit_code
    assert "secret/db" in done.stdout
    assert done.stderr.startswith(f"warning: {plural}")


async def test_pod_statuses_are_required(api: KubeApiServer) -> None:
    """The error names the permission."""
    api.forbidden.add("list secretproviderclasspodstatuses")
    done = await run_cli(*_arguments(api, "-A"))
    assert 1 == done.exit_code
    assert "secretproviderclasspodstatuses" in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "empty"), "no pod has a volume of the driver"),
        (("-A", "web-2"), "pod web-2 has no volume of the driver, or does not exist"),
        (("-n", "empty", "--by", "secret"), "no synced Secrets"),
    ],
)
async def test_nothing_found_is_said(
    api: KubeApiServer, arguments: tuple[str, ...], message: str
) -> None:
    """On standard error, so that a program reads no row."""
    done = await run_cli(*_arguments(api, *arguments))
    assert (0, "", f"{message}\n") == (done.exit_code, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--context", "nowhere"), "has no context 'nowhere'\nhint: Its contexts are: fake."),
        (("-A", "-n", "shop"), "--namespace and --all-namespaces exclude each other"),
        (("--watch", "-o", "json"), "-o json and --watch exclude each other"),
        (("--by", "secret", "web-1"), "--by secret takes no POD"),
    ],
)
async def test_wrong_arguments(
    api: KubeApiServer, arguments: tuple[str, ...], message: str
) -> None:
    """Each with its remedy or the option."""
    done = await run_cli(*_arguments(api, *arguments))
    assert done.exit_code in (1, 2)
    assert message in done.stderr
