"""`keyferry status` over a Kubernetes API."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.cli import run_cli
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_objects import GKE_SYNCS
from tests.fakes.syncs import UID, served, sync_manifest
from tests.unit.inventory.test_objects import AZURE, SECRET, pod, pod_status, spc

CANARY = "canary-51f0"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A cluster with one pod whose environment is old."""
    async with running_api(tmp_path) as running:
        expires = '{"secret/db":"2999-01-01T00:00:00Z"}'
        status = _labelled(pod_status("secret/db"))
        status["metadata"]["annotations"] = {"keyferry.dev/expires": expires}
        running.put("secretproviderclasspodstatuses", status)
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
    columns = ["POD", "CLASS", "OBJECT", "VERSION", "ENVIRONMENT", "EXPIRES", "REFRESHED"]
    assert [*columns, "PROBLEM"] == heading.split()
    assert ["web-1", "web", "secret/db", "v1", "old"] == row.split()[:5]
    assert "in " in row
    wide = await run_cli(*_arguments(api, "-A", "-o", "wide"))
    assert "NAMESPACE" in wide.stdout
    assert "MOUNTED" in wide.stdout
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
        "expiresAt": "2999-01-01T00:00:00+00:00",
        "refreshedAt": "2026-01-02T03:04:05+00:00",
        "mountedAt": "2030-01-01T12:00:00+00:00",
        "node": "node-1",
        "problem": "",
    } == row
    assert CANARY not in done.stdout + done.stderr


async def test_a_volume_that_is_not_mounted_is_shown(api: KubeApiServer) -> None:
    """A pod that waits for it has no pod status yet."""
    attributes = {"secretProviderClass": "web"}
    csi = {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": attributes}
    spec = {"volumes": [{"name": "s", "csi": csi}], "nodeName": "node-2"}
    metadata = {"name": "web-2", "namespace": "shop"}
    api.put("pods", {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}})
    done = await run_cli(*_arguments(api, "-n", "shop", "web-2"))
    assert done.stdout.endswith("not mounted yet; kubectl describe pod shows why\n")
    api.put("pods", {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}})
    done = await run_cli(*_arguments(api, "-n", "shop", "web-2"))
    assert "" == done.stdout


async def test_users_of_secrets_are_listed(api: KubeApiServer) -> None:
    """Also the Secrets that nobody uses."""
    unused = {"metadata": {"name": "x", "namespace": "shop"}, "type": "Opaque"}
    api.put("secrets", _labelled(unused))
    done = await run_cli(*_arguments(api, "-n", "shop", "--by", "secret", "-o", "json"))
    used, other = json.loads(done.stdout)
    assert {
        "namespace": "shop",
        "secret": "db",
        "definedBy": "",
        "usage": "environment",
        "kind": "Pod",
        "name": "web-1",
        "environment": "old",
        "environmentOldSince": "2026-01-02T03:00:00+00:00",
    } == used
    assert ("x", "unused", "") == (other["secret"], other["usage"], other["name"])


# --- SecretSyncs ----------------------------------------------------------------------------------


async def _synced(api: KubeApiServer) -> None:
    """Add two SecretSyncs, one of which failed, and the Secret of the other."""
    expiring = {"id": "secret/tls", "version": "v7", "expires": "2999-01-01T00:00:00Z"}
    good = {
        "objects": [{"id": "secret/db", "version": "v2"}, expiring],
        "lastSuccessfulSyncTime": "2026-01-02T03:04:05Z",
        "conditions": [{"type": "Ready", "status": "True", "reason": "SecretUpToDate"}],
    }
    message = "Secret shop/bad exists. Delete it."
    failed = {"type": "Ready", "status": "False", "reason": "ControllerPatchError"}
    _put_sync(api, served(sync_manifest("sync-db", secretProviderClassName="web"), **good))
    _put_sync(api, served(sync_manifest("bad"), conditions=[{**failed, "message": message}]))
    owner = {"apiVersion": "x/v1", "kind": "SecretSync", "name": "sync-db", "uid": UID}
    metadata = {
        "name": "sync-db",
        "namespace": "shop",
        "labels": {"secrets-store.sync.x-k8s.io": ""},
        "ownerReferences": [owner],
    }
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    data = {"data": {"password": CANARY}, "type": "Opaque"}
    api.objects.apply(
        ("secrets", "shop", "sync-db"), {**manifest, **data}, "controller", force=True
    )
    env = [{"secretRef": {"name": "sync-db"}}]
    state = {"running": {"startedAt": "2026-01-02T02:00:00Z"}}
    volume = {"name": "v", "secret": {"secretName": "sync-db"}}
    api.put(
        "pods",
        {
            "metadata": {"name": "api-1", "namespace": "shop"},
            "spec": {"containers": [{"name": "c", "envFrom": env}], "volumes": [volume]},
            "status": {"containerStatuses": [{"name": "c", "state": state}]},
        },
    )


def _put_sync(api: KubeApiServer, manifest: dict[str, Any]) -> None:
    """Create a SecretSync, then set its status: a new object has that of its CRD."""
    for _ in range(2):
        api.put("secretsyncs", manifest)


async def test_secret_syncs_have_a_table_of_their_own(api: KubeApiServer) -> None:
    """After that of the pods; `wide` adds columns."""
    await _synced(api)
    done = await run_cli(*_arguments(api, "-n", "shop"))
    assert (0, "") == (done.exit_code, done.stderr)
    pods, syncs = done.stdout.split("\n\n")
    assert 2 == len(pods.splitlines())
    header, bad, db, tls = (line.split() for line in syncs.splitlines())
    columns = ["CLASS", "OBJECT", "VERSION", "EXPIRES", "SYNCED", "READY", "PROBLEM"]
    assert ["SECRETSYNC", *columns] == header
    assert ["bad", "vault", "-", "-", "-", "-", "False", "Secret", "shop/bad"] == bad[:9]
    assert ["sync-db", "web", "secret/db", "v2", "-"] == db[:5]
    assert ["True", "-"] == db[6:]
    assert ["secret/tls", "v7", "in"] == tls[2:5]
    wide = await run_cli(*_arguments(api, "-A", "-o", "wide"))
    assert "SERVICEACCOUNT" in wide.stdout
    assert "ControllerPatchError" in wide.stdout
    assert 2 == wide.stdout.count("NAMESPACE")


async def test_json_has_the_rows_of_secret_syncs(api: KubeApiServer) -> None:
    """With the key `secretSync` instead of `pod`, and no value."""
    await _synced(api)
    done = await run_cli(*_arguments(api, "-A", "-o", "json"))
    pod_row, _, row, _ = json.loads(done.stdout)
    assert "web-1" == pod_row["pod"]
    assert {
        "namespace": "shop",
        "secretSync": "sync-db",
        "secretProviderClass": "web",
        "serviceAccount": "web",
        "object": "secret/db",
        "version": "v2",
        "expiresAt": None,
        "syncedAt": "2026-01-02T03:04:05+00:00",
        "ready": "True",
        "reason": "SecretUpToDate",
        "problem": "",
    } == row
    assert CANARY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("target", "pods", "syncs"),
    [
        ("web-1", ["web-1"], []),
        ("pod/web-1", ["web-1"], []),
        ("secretsync/sync-db", [], ["sync-db", "sync-db"]),
        ("ssync/bad", [], ["bad"]),
        ("secretproviderclass/web", ["web-1"], ["sync-db", "sync-db"]),
    ],
)
async def test_one_object_is_chosen(
    api: KubeApiServer, target: str, pods: list[str], syncs: list[str]
) -> None:
    """By its type and name."""
    await _synced(api)
    done = await run_cli(*_arguments(api, "-n", "shop", "-o", "json", target))
    rows = json.loads(done.stdout)
    assert pods == [row["pod"] for row in rows if "pod" in row]
    assert syncs == [row["secretSync"] for row in rows if "secretSync" in row]


async def test_secrets_of_secret_syncs_have_their_users(api: KubeApiServer) -> None:
    """Who defines it, who would miss it, and whose environment is old; only metadata is read."""
    await _synced(api)
    arguments = _arguments(api, "-n", "shop", "--by", "secret")
    done = await run_cli(*arguments)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [
        ["SECRET", "DEFINED", "BY", "USAGE", "KIND", "NAME", "ENVIRONMENT"],
        ["db", "-", "environment", "Pod", "web-1", "old", "for"],
        ["sync-db", "secretsync/sync-db", "environment", "Pod", "api-1", "old", "for"],
        ["sync-db", "secretsync/sync-db", "volume", "Pod", "api-1", "-"],
    ] == [row[:7] for row in rows]
    for target in ("sync-db", "secret/sync-db", "secretsync/sync-db"):
        done = await run_cli(*arguments, target)
        assert rows[2:] == [line.split() for line in done.stdout.splitlines()[1:]]
        assert CANARY not in done.stdout + done.stderr


async def test_secrets_are_required_for_their_users(api: KubeApiServer) -> None:
    """An empty list would say that nobody would miss them."""
    api.forbidden.add("list secrets")
    done = await run_cli(*_arguments(api, "-n", "shop", "--by", "secret"))
    assert (1, "") == (done.exit_code, done.stdout)
    assert "hint: Ask for the verb list on secrets with a Role in that namespace" in done.stderr


async def test_a_cluster_without_secret_syncs_shows_pods(api: KubeApiServer) -> None:
    """Quietly, also if the user may not list what does not exist."""
    api.absent |= {"secretsyncs", GKE_SYNCS}
    done = await run_cli(*_arguments(api, "-n", "shop"))
    assert (0, "") == (done.exit_code, done.stderr)
    assert 2 == len(done.stdout.splitlines())
    api.absent.clear()
    _deny(api, "secretsyncs", served_groups=False)
    done = await run_cli(*_arguments(api, "-n", "shop"))
    assert (0, "") == (done.exit_code, done.stderr)
    assert 2 == len(done.stdout.splitlines())


def _deny(api: KubeApiServer, plural: str, *, served_groups: bool) -> None:
    """Forbid to list a kind; a cluster without the CRD answers the same."""
    api.forbidden.add(f"list {plural}")
    api.serves_sync_groups = served_groups


async def test_a_missing_permission_for_secret_syncs_is_a_warning(api: KubeApiServer) -> None:
    """Pods are shown without it."""
    _deny(api, "secretsyncs", served_groups=True)
    done = await run_cli(*_arguments(api, "-n", "shop"))
    assert 0 == done.exit_code
    assert (
        "warning: secretsyncs.secret-sync.x-k8s.io cannot be listed (permission denied):"
        " SecretSyncs are not shown\n"
    ) == done.stderr
    assert 2 == len(done.stdout.splitlines())


async def test_a_cluster_without_a_driver_shows_secret_syncs(api: KubeApiServer) -> None:
    """The CRD of pod statuses is not installed, or the user may not read them."""
    await _synced(api)
    api.absent.add("secretproviderclasspodstatuses")
    done = await run_cli(*_arguments(api, "-n", "shop"))
    assert (0, "") == (done.exit_code, done.stderr)
    assert done.stdout.startswith("SECRETSYNC")
    api.absent.clear()
    api.forbidden.add("list secretproviderclasspodstatuses")
    denied = await run_cli(*_arguments(api, "-n", "shop"))
    assert done.stdout.splitlines()[0] == denied.stdout.splitlines()[0]
    assert ": volumes of pods are not shown\n" in denied.stderr


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
        (("-n", "empty"), "no pod has a volume of the driver, and there are no SecretSyncs"),
        (("-A", "web-2"), "pod web-2 has no volume of the driver, or does not exist"),
        (("-A", "secretsync/x"), "there is no SecretSync x"),
        (
            ("-A", "secretproviderclass/x"),
            "no pod and no SecretSync uses SecretProviderClass x, or it does not exist",
        ),
        (("-A", "--by", "secret", "x"), "there is no synced Secret x"),
        (
            ("-A", "--by", "secret", "secretsync/x"),
            "no synced Secret is defined by secretsync/x",
        ),
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
        (
            ("--by", "secret", "pod/web-1"),
            "'pod/web-1' is not the name of an object: write secret/NAME, secretsync/NAME, secr",
        ),
        (("secret/web",), "write pod/NAME, secretsync/NAME, secretproviderclass/NAME"),
        (("secretsync/",), "'secretsync/' is not the name of an object"),
    ],
)
async def test_wrong_arguments(
    api: KubeApiServer, arguments: tuple[str, ...], message: str
) -> None:
    """Each with its remedy or the option."""
    done = await run_cli(*_arguments(api, *arguments))
    assert done.exit_code in (1, 2)
    assert message in done.stderr


async def test_watch_on_a_terminal_shows_the_current_table(api: KubeApiServer) -> None:
    """It is cleared before each table, although nothing changes but the ages."""
    clear = b"\x1b[H\x1b[2J\x1b[3J"
    terminal, output = pty.openpty()
    command = (sys.executable, "-m", "keyferry", *_arguments(api, "-n", "shop", "--watch"))
    process = await asyncio.create_subprocess_exec(*command, stdout=output)
    os.close(output)
    shown = b""
    while shown.count(b"secret/db") < 2:
        shown += await asyncio.to_thread(os.read, terminal, 65536)
    process.send_signal(signal.SIGINT)
    assert 130 == await process.wait()
    os.close(terminal)
    assert shown.startswith(clear + b"POD")
    assert 2 <= shown.count(clear)
