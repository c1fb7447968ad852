"""`keyferry doctor` for objects of a cluster, from here and from a node."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.cli.cluster.connection import ClusterOptions
from keyferry.cli.cluster.targets import TargetKind, parse_target
from keyferry.cli.diagnosis.objects import ClusterJob, diagnose_object
from keyferry.doctor.checks import DoctorStage, Report, Status
from keyferry.doctor.reports import document, report_lines
from tests.fakes.cli import ISOLATION, CommandResult, run_cli, start_cli
from tests.fakes.kube_api import KubeApiServer, running_api
from tests.fakes.syncs import served, sync_manifest
from tests.integration.doctor.azure_world import CANARY, SUBJECT, World, secret, working_world

S = DoctorStage
NODE = "node-1"


@dataclass
class Cluster:
    """A cluster with a working pod and SecretSync, and the world of its vault."""

    api: KubeApiServer
    world: World
    folder: Path
    commands: list[list[str]]

    async def doctor(self, *arguments: str) -> CommandResult:
        """Run the command."""
        return await run_cli(
            "doctor",
            *arguments,
            "--namespace=shop",
            f"--kubeconfig={self.api.kubeconfig}",
            cwd=self.folder,
        )

    async def from_here(self, target: str, service_account: str | None = None) -> Report:
        """Return the report of the command in this process, against the development vault."""
        (report,) = await diagnose_object(
            ClusterJob(
                parse_target(target, TargetKind.POD, TargetKind.CLASS, TargetKind.SYNC),
                ClusterOptions(self.api.kubeconfig, None, "shop"),
                self.world.options(),
                service_account=service_account,
            )
        )
        return report

    def change_class(self, change: Callable[[World], object]) -> None:
        """Replace the SecretProviderClass."""
        change(self.world)
        self.api.put("secretproviderclasses", self.world._manifest())


def pod(**volume: Any) -> dict[str, Any]:
    """The pod of the application."""
    csi = {
        "driver": "secrets-store.csi.k8s.io",
        "readOnly": True,
        "volumeAttributes": {"secretProviderClass": "app"},
        **volume,
    }
    return {
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u-1"},
        "spec": {
            "nodeName": NODE,
            "serviceAccountName": "web",
            "volumes": [{"name": "secrets", "csi": csi}],
        },
    }


def csi_driver(*audiences: str) -> dict[str, Any]:
    """The CSIDriver object."""
    requests = [{"audience": each} for each in audiences]
    return {
        "metadata": {"name": "secrets-store.csi.k8s.io", "namespace": ""},
        "spec": {"tokenRequests": requests},
    }


def keyferry_pod(name: str, app: str, *arguments: str) -> dict[str, Any]:
    """A pod of Keyferry on the node."""
    return {
        "metadata": {"name": name, "namespace": "kube-system", "uid": name, "labels": {"app": app}},
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "keyferry", "args": list(arguments)}],
        },
        "status": {"phase": "Running"},
    }


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with working_world(tmp_path) as world, running_api(tmp_path) as api:
        commands: list[list[str]] = []

        def issue(subject: str, audience: str) -> str:
            tokens = json.loads(world.vault.service_account_token(subject, audience=audience))
            token: str = tokens[audience]["token"]
            return token

        async def run(command: list[str], stdin: bytes) -> tuple[int, bytes]:
            commands.append(command)
            process = await start_cli(*command[1:], cwd=tmp_path)
            output, errors = await process.communicate(stdin)
            assert CANARY.encode() not in errors
            return process.returncode or 0, output

        api.issue_token, api.run_command = issue, run
        api.put("secretproviderclasses", world._manifest())
        api.put("serviceaccounts", {"metadata": {"name": "web", "namespace": "shop"}})
        api.put("pods", pod())
        api.put("csidrivers", csi_driver("api://AzureADTokenExchange"))
        sync = sync_manifest(
            "app",
            secretProviderClassName="app",
            secretObject={
                "type": "Opaque",
                "data": [{"sourcePath": "db-password", "targetKey": "password"}],
            },
        )
        api.put("secretsyncs", served(sync))
        daemon = ("driver", f"--dev-vault={world.vault.data.folder}", "--nodeid=$(NODE)")
        daemon += (f"--endpoint=unix://{tmp_path}/csi.sock", *ISOLATION)
        api.put("pods", keyferry_pod("driver-x", "secrets-store-csi-driver", *daemon))
        daemon = ("sync-controller", f"--dev-vault={world.vault.data.folder}", "--namespaces=shop")
        api.put("pods", keyferry_pod("sync-x", "keyferry-sync", *daemon))
        yield Cluster(api, world, tmp_path, commands)


TARGETS = ["pod/web-0", "secretproviderclass/app", "secretsync/app"]


def account_for(target: str) -> str | None:
    """The service account that is named on the command line."""
    return "web" if "class" in target else None


def text_of(report: Report) -> str:
    """The report as text and as JSON."""
    lines = "\n".join(report_lines([report], lambda _, word: word))
    return f"{lines}\n{json.dumps(document([report]))}"


@pytest.mark.parametrize("target", TARGETS)
async def test_everything_is_ok_from_here(cluster: Cluster, target: str) -> None:
    """The token is issued with the rights of the caller, and is not printed."""
    report = await cluster.from_here(target, account_for(target))
    assert report.is_complete, text_of(report)
    facts = {each.stage: each.facts for each in report.checks}
    assert SUBJECT == facts[S.TOKEN]["subject"]
    assert "password" == facts[S.SECRET]["keys"]
    assert "shop/web" in {each.subject for each in report.checks}
    assert CANARY not in text_of(report)
    assert "eyJ" not in text_of(report)


@pytest.mark.parametrize("target", TARGETS)
async def test_everything_is_ok_from_the_node(cluster: Cluster, target: str) -> None:
    """With the flags of the daemon, and nothing secret in the arguments of the command."""
    account = account_for(target)
    more = [f"--service-account={account}"] if account else []
    done = await cluster.doctor(target, "--from", "node", "-o", "json", *more)
    assert 0 == done.exit_code, done.stdout + done.stderr
    (report,) = json.loads(done.stdout)
    assert report["ok"]
    assert {"tls", "object", "rendering", "secret"} <= {each["stage"] for each in report["checks"]}
    assert [["keyferry", "doctor", "--probe"]] == cluster.commands
    pod_name = "sync-x" if "sync" in target else "driver-x"
    assert f"probing from pod kube-system/{pod_name} on node {NODE}" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert "eyJ" not in done.stdout + done.stderr


async def test_a_broken_object_is_found_from_the_node(cluster: Cluster) -> None:
    """The exit code is that of a mount."""
    cluster.world.vault.disable("contoso", "api-key")
    done = await cluster.doctor("pod/web-0", "--from", "node")
    assert 3 == done.exit_code
    assert "Broken: object of secret api-key." in done.stdout


async def test_an_emulator_that_does_not_run_on_the_node_is_named(cluster: Cluster) -> None:
    """The report of the node says so."""
    daemon = ("driver", "--dev-vault=/nonexistent", "--nodeid=n", *ISOLATION)
    cluster.api.put("pods", keyferry_pod("driver-x", "secrets-store-csi-driver", *daemon))
    done = await cluster.doctor("pod/web-0", "--from", "node", "-o", "json")
    (report,) = json.loads(done.stdout)
    assert "tcp" == report["brokenStage"]
    assert "development vault" in report["brokenSubject"]


def no_class(cluster: Cluster) -> None:
    cluster.api.remove("secretproviderclasses", "shop", "app")


def no_pod(cluster: Cluster) -> None:
    cluster.api.remove("pods", "shop", "web-0")


def other_driver(cluster: Cluster) -> None:
    cluster.api.put("pods", pod(driver="csi.example.com", volumeAttributes={"a": "b"}))


def misspelled_driver(cluster: Cluster) -> None:
    cluster.api.put("pods", pod(driver="secret-store.csi.k8s.io"))


def volume_without_class(cluster: Cluster) -> None:
    cluster.api.put("pods", pod(volumeAttributes={}))


def no_account(cluster: Cluster) -> None:
    cluster.api.remove("serviceaccounts", "shop", "web")


def no_token_requests(cluster: Cluster) -> None:
    cluster.api.put("csidrivers", csi_driver())


def other_audience(cluster: Cluster) -> None:
    cluster.api.put("csidrivers", csi_driver("vault"))


def no_csi_driver(cluster: Cluster) -> None:
    cluster.api.remove("csidrivers", "", "secrets-store.csi.k8s.io")


def not_federated(cluster: Cluster) -> None:
    cluster.api.put("serviceaccounts", {"metadata": {"name": "other", "namespace": "shop"}})
    manifest = pod()
    manifest["spec"]["serviceAccountName"] = "other"
    cluster.api.put("pods", manifest)


def overridden_parameter(cluster: Cluster) -> None:
    attributes = {"secretProviderClass": "app", "keyvaultName": "fabrikam"}
    cluster.api.put("pods", pod(volumeAttributes=attributes))


def no_credentials_secret(cluster: Cluster) -> None:
    cluster.change_class(lambda world: world.parameters.pop("clientID"))
    cluster.api.put("pods", pod(nodePublishSecretRef={"name": "credentials"}))


def wrong_credentials(cluster: Cluster) -> None:
    no_credentials_secret(cluster)
    data = {"clientid": "a", "clientsecret": CANARY}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    manifest = secret()
    manifest["metadata"]["namespace"] = "shop"
    cluster.api.put("secrets", {**manifest, "data": encoded})


MISTAKES = [
    (no_class, S.CLASS),
    (no_pod, S.CLASS),
    (other_driver, S.CLASS),
    (misspelled_driver, S.CLASS),
    (volume_without_class, S.CLASS),
    (no_account, S.SERVICE_ACCOUNT),
    (no_token_requests, S.TOKEN),
    (other_audience, S.TOKEN),
    (no_csi_driver, S.TOKEN),
    (not_federated, S.TOKEN_ENDPOINT),
    (overridden_parameter, S.VAULT),
    (no_credentials_secret, S.CREDENTIALS),
    (wrong_credentials, S.TOKEN_ENDPOINT),
]


@pytest.mark.parametrize(
    ("mistake", "stage"), MISTAKES, ids=[each[0].__name__ for each in MISTAKES]
)
async def test_the_broken_stage_of_a_pod_is_named(
    cluster: Cluster, mistake: Callable[[Cluster], None], stage: DoctorStage
) -> None:
    """With a remedy, and without a value."""
    mistake(cluster)
    report = await cluster.from_here("pod/web-0")
    text = text_of(report)
    assert report.broken is not None, text
    assert stage == report.broken.stage, text
    assert report.broken.remedy
    assert 0 != report.broken.exit_code
    assert CANARY not in text


RIGHTS = [
    ("get secretproviderclasses", S.CLASS),
    ("get serviceaccounts", S.SERVICE_ACCOUNT),
    ("create serviceaccounts/token", S.TOKEN),
]


@pytest.mark.parametrize(("right", "stage"), RIGHTS)
async def test_a_missing_right_of_the_caller_skips_the_stage_and_is_named(
    cluster: Cluster, right: str, stage: DoctorStage
) -> None:
    """It is no failure of the set-up."""
    cluster.api.forbidden.add(right)
    report = await cluster.from_here("pod/web-0")
    check = next(each for each in report.checks if each.stage is stage)
    assert Status.SKIPPED is check.status
    verb, resource = right.split()
    assert verb in check.remedy
    assert resource in check.remedy
    assert report.broken is None


async def test_network_is_checked_although_no_token_may_be_requested(cluster: Cluster) -> None:
    """Independent stages still run."""
    cluster.api.forbidden.add("create serviceaccounts/token")
    report = await cluster.from_here("pod/web-0")
    status = {(each.stage, each.status) for each in report.checks}
    expected = {(S.TLS, Status.OK), (S.VAULT, Status.OK), (S.OBJECT, Status.SKIPPED)}
    assert expected <= status, text_of(report)
    assert not report.is_complete


async def test_several_volumes_have_a_report_each(cluster: Cluster) -> None:
    """A pod can have several."""
    manifest = pod()
    first = manifest["spec"]["volumes"][0]
    manifest["spec"]["volumes"].append({**first, "name": "more"})
    cluster.api.put("pods", manifest)
    vault = f"--dev-vault={cluster.world.vault.data.folder}"
    done = await cluster.doctor("pod/web-0", vault, "-o", "yaml")
    reports = yaml.safe_load(done.stdout)
    assert ["pod/web-0 volume secrets", "pod/web-0 volume more"] == [
        each["target"] for each in reports
    ]


async def test_no_pod_of_keyferry_on_the_node_is_an_error_with_a_command(cluster: Cluster) -> None:
    """The command lists the pods."""
    done = await cluster.doctor("pod/web-0", "--from", "node", "--node", "node-2")
    assert 1 == done.exit_code
    assert "no pod of keyferry driver runs on node node-2" in done.stderr
    assert "kubectl get pods" in done.stderr


async def test_a_missing_right_to_run_commands_is_named(cluster: Cluster) -> None:
    """Both verbs, of which clusters need one or the other."""
    cluster.api.forbidden.add("get pods/exec")
    done = await cluster.doctor("pod/web-0", "--from", "node")
    assert 1 == done.exit_code
    assert "pods/exec" in done.stderr


async def test_commands_that_do_not_fit_are_rejected(cluster: Cluster) -> None:
    """In one line each."""
    for arguments in (
        ("pod/web-0", "--service-account=web"),
        ("pod/web-0", "--node=x"),
        ("pod/web-0", "--from=node", "--dev-vault=."),
        ("secret/app",),
    ):
        done = await cluster.doctor(*arguments)
        assert 2 == done.exit_code, arguments
