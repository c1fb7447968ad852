"""`keyferry lint --cluster` over a Kubernetes API."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.cli import CommandResult, run_cli
from tests.fakes.installation import install
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.kube_objects import GKE_SYNCS
from tests.fakes.syncs import served, sync_manifest
from tests.unit.lint.test_lint import VAULT

CANARY = "canary-51f0"
CLASS: dict[str, Any] = yaml.safe_load(VAULT)


def pod(name: str = "web-1", *, owner: str = "", phase: str = "Running") -> dict[str, Any]:
    """A pod with a variable from the Secret of a SecretSync."""
    reference = {"secretKeyRef": {"name": "web", "key": "password"}}
    owners = [{"kind": "ReplicaSet", "name": "web", "uid": owner, "controller": True}]
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            **({"ownerReferences": owners} if owner else {}),
        },
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "env": [
                        {"name": "PASSWORD", "valueFrom": reference},
                        {"name": "OTHER", "value": CANARY},
                    ],
                }
            ]
        },
        "status": {"phase": phase},
    }


def wrong_pod(name: str, *, owner: str = "", phase: str = "Running") -> dict[str, Any]:
    """A pod with a misspelled key."""
    text = json.dumps(pod(name, owner=owner, phase=phase))
    return dict(json.loads(text.replace('"password"', '"passwort"')))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[KubeApiServer]:
    """A cluster in which nothing is wrong."""
    async with running_api(tmp_path) as running:
        install(running)
        running.put("secretproviderclasses", CLASS)
        running.put("secretsyncs", served(sync_manifest(secretProviderClassName="api")))
        running.put("pods", pod())
        metadata = {"name": "web", "namespace": "shop"}
        running.put("secrets", {"metadata": metadata, "data": {"password": CANARY}})
        yield running


async def lint(api: KubeApiServer, *more: str) -> CommandResult:
    """Run the command in the namespace shop."""
    arguments = more if "-A" in more or "-n" in more else ("-n", "shop", *more)
    return await run_cli("lint", "--cluster", "--kubeconfig", api.kubeconfig, *arguments)


async def test_a_good_cluster_has_no_findings(api: KubeApiServer) -> None:
    """No Secret is read."""
    done = await lint(api)
    expected = "3 objects of the cluster checked: 0 errors, 0 warnings\n"
    assert (0, "", expected) == (done.exit_code, done.stdout, done.stderr)
    kinds = {"secretproviderclasses", "secretsyncs", GKE_SYNCS, "pods", "serviceaccounts"}
    kinds |= {"daemonsets", "deployments"}
    others = {"get csidrivers", "create subjectaccessreviews"}
    assert {f"list {kind}" for kind in kinds} | others == set(api.requests)


async def test_objects_are_checked_like_files(api: KubeApiServer) -> None:
    """The place is namespace and name."""
    data = [{"sourcePath": "passwort", "targetKey": "password"}]
    sync = sync_manifest(secretProviderClassName="api", secretObject={"data": data})
    api.put("secretsyncs", served(sync))
    text = VAULT.replace("secretKey: password", "secretkey: password")
    api.put("secretproviderclasses", yaml.safe_load(text))
    api.put("pods", wrong_pod("web-1"))
    done = await lint(api)
    assert 2 == done.exit_code
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [
        (
            "shop/api: warning: SecretProviderClass shop/api: unknown field"
            " spec.parameters.objects[0].secretkey: did you mean secretKey? [unknown-field]"
        ),
        (
            "shop/web: error: SecretSync shop/web: sourcePath 'passwort' matches no file; the"
            " SecretProviderClass has password (object password) [sync-source]"
        ),
        (
            "shop/web-1: error: Pod shop/web-1: secret web has no key passwort; its keys are:"
            " password [secret-key]"
        ),
    ] == lines
    assert CANARY not in done.stdout + done.stderr


async def test_programs_get_no_line(api: KubeApiServer) -> None:
    """A cluster has no lines."""
    api.remove("secretproviderclasses", "shop", "api")
    done = await lint(api, "--format", "json")
    (found,) = json.loads(done.stdout)
    assert ("class-not-found", "shop/web", None) == (found["rule"], found["file"], found["line"])
    sarif = json.loads((await lint(api, "--format", "sarif")).stdout)
    (location,) = sarif["runs"][0]["results"][0]["locations"]
    expected = {"fullyQualifiedName": "shop/web", "kind": "resource"}
    assert {"logicalLocations": [expected]} == location
    github = await lint(api, "--format", "github")
    assert github.stdout.startswith("::warning title=keyferry lint%3A class-not-found::SecretSync")


async def test_one_pod_of_a_controller_is_checked(api: KubeApiServer) -> None:
    """And none that has finished."""
    for name in ("a", "b"):
        api.put("pods", wrong_pod(name, owner="1"))
    api.put("pods", wrong_pod("c", owner="2"))
    api.put("pods", wrong_pod("d"))
    api.put("pods", wrong_pod("e", phase="Succeeded"))
    done = await lint(api)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert ["shop/a", "shop/c", "shop/d"] == [line.partition(":")[0] for line in lines]


async def test_namespaces(api: KubeApiServer) -> None:
    """One, or all."""
    api.put("secretsyncs", served(sync_manifest(namespace="other")))
    assert 0 == (await lint(api, "--strict")).exit_code
    other = await lint(api, "-n", "other")
    assert other.stdout.startswith("other/web: warning: SecretSync other/web: SecretProviderClass")
    everywhere = await lint(api, "-A")
    assert other.stdout == everywhere.stdout
    assert everywhere.stderr.startswith("4 objects")


async def test_sync_of_gke(api: KubeApiServer) -> None:
    """Two SecretSyncs of one name; a cluster may have one of the API groups, or none."""
    gke = sync_manifest(secretProviderClassName="api", api_version="secret-sync.gke.io/v1")
    api.put(GKE_SYNCS, served(gke))
    assert "secret web is also made by the SecretSync of secret-sync.x" in (await lint(api)).stdout
    api.absent.add("secretsyncs")
    assert (0, "") == ((done := await lint(api)).exit_code, done.stdout)
    api.absent.add(GKE_SYNCS)
    assert (0, "") == ((done := await lint(api)).exit_code, done.stdout)


async def test_old_crds(api: KubeApiServer) -> None:
    """Those of upstream."""
    api.upstream_crds = api.upstream_sync_crd = True
    done = await lint(api)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    problem = "warning: the CRD is that of upstream, or of an old version: it drops status."
    assert 0 == done.exit_code
    assert lines[0].startswith(
        f"secretproviderclasspodstatuses.secrets-store.csi.x-k8s.io: {problem}conditions"
    )
    assert 2 == len(lines)
    assert lines[1].startswith(f"secretsyncs.secret-sync.x-k8s.io: {problem}observedGeneration")
    assert "hint: Run: kubectl apply --server-side" in done.stdout


async def test_missing_crds(api: KubeApiServer) -> None:
    """Nothing can be mounted."""
    api.absent |= {"secretproviderclasses", "secretproviderclasspodstatuses"}
    done = await lint(api, "--disable", "class-not-found")
    assert 2 == done.exit_code
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    group = "secrets-store.csi.x-k8s.io"
    assert [
        f"{plural}.{group}: error: the cluster has no such CRD [missing-crd]"
        for plural in ("secretproviderclasses", "secretproviderclasspodstatuses")
    ] == lines


async def test_rights_are_those_of_the_service_accounts(api: KubeApiServer) -> None:
    """In all namespaces, or only in that of the object; Events are not required."""
    verbs = ("get", "list", "watch", "create", "patch", "delete")
    api.denied |= {f"keyferry-sync {verb} secrets" for verb in verbs}
    assert (0, "") == ((done := await lint(api)).exit_code, done.stdout)
    api.denied |= {"keyferry-sync create secrets shop", "keyferry-sync patch secrets shop"}
    api.denied.add("secrets-store-csi-driver list pods")
    done = await lint(api)
    assert 2 == done.exit_code
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [
        (
            "keyferry/keyferry: error: DaemonSet keyferry/keyferry: its service account may not"
            " list pods in all namespaces [rbac]"
        ),
        (
            "keyferry/keyferry-sync: error: Deployment keyferry/keyferry-sync: its service account"
            " may not create, patch secrets in namespace shop [rbac]"
        ),
    ] == lines


async def test_what_is_missing_in_the_installation(api: KubeApiServer) -> None:
    """The controller may not request the token, and the service account is missing."""
    install(api, controller=("sync-controller",), csi_driver={"podInfoOnMount": False})
    api.remove("serviceaccounts", "shop", "web")
    done = await lint(api)
    rules = re.findall(r"\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert ["csi-driver", "audience", "service-account"] == sorted(rules, key=_ORDER.index)
    disabled = [each for rule in _ORDER for each in ("--disable", rule)]
    done = await lint(api, *disabled)
    assert (0, "") == (done.exit_code, done.stdout)


_ORDER = ["csi-driver", "audience", "service-account"]


@pytest.mark.parametrize(
    ("action", "warning"),
    [
        ("list daemonsets", "daemonsets.apps are not checked"),
        ("list deployments", "deployments.apps are not checked"),
        ("list serviceaccounts", "serviceaccounts are not checked"),
        ("get csidrivers", "the CSIDriver object is not checked"),
        ("create subjectaccessreviews", "the rights of the driver and the controller are not"),
    ],
)
async def test_an_installation_that_may_not_be_read(
    api: KubeApiServer, action: str, warning: str
) -> None:
    """A warning says whom to ask for what; the objects are checked."""
    api.forbidden.add(action)
    done = await lint(api)
    assert (0, "") == (done.exit_code, done.stdout)
    assert done.stderr.startswith(f"warning: {warning}")
    verb, _, plural = action.partition(" ")
    assert f"Ask for the verb {verb} on {plural}" in done.stderr
    assert "\n3 objects of the cluster checked" in done.stderr


@pytest.mark.parametrize("plural", ["pods", "secretsyncs"])
async def test_a_missing_permission_is_a_warning(api: KubeApiServer, plural: str) -> None:
    """The rest is checked."""
    api.forbidden.add(f"list {plural}")
    done = await lint(api)
    assert (0, "") == (done.exit_code, done.stdout)
    assert done.stderr.startswith(f"warning: {plural}")
    assert f"Ask for the verb list on {plural}" in done.stderr
    assert "\n2 objects" in done.stderr


async def test_classes_are_required(api: KubeApiServer) -> None:
    """The error says whom to ask for what."""
    api.forbidden.add("list secretproviderclasses")
    done = await lint(api, "-A")
    resource = "secretproviderclasses.secrets-store.csi.x-k8s.io"
    assert (1, "") == (done.exit_code, done.stdout)
    assert f"the Kubernetes API refuses to list {resource} of all namespaces" in done.stderr
    assert f"hint: Ask for the verb list on {resource} with a ClusterRole" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cluster", "a.yaml"), "--cluster and files exclude each other"),
        (("a.yaml", "-A"), "--all-namespaces, --context and --kubeconfig need --cluster"),
        (("--cluster", "-A", "-n", "a"), "--namespace and --all-namespaces exclude each other"),
        ((), "missing argument: name files or folders, or set --cluster"),
    ],
)
async def test_wrong_arguments(arguments: tuple[str, ...], message: str) -> None:
    """With the exit code of a wrong command line."""
    done = await run_cli("lint", *arguments)
    assert (2, "") == (done.exit_code, done.stdout)
    assert message in done.stderr
