"""The Helm chart as text: upstream's values mean what they mean there, and rights are few."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from keyferry.cli.driver import DRIVER_FLAGS
from tests.e2e.cluster.programs import built_programs

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "keyferry"

Manifest = dict[str, Any]


async def render(values: Manifest, *, kube: str = "1.34.0") -> list[Manifest]:
    """What the chart makes of these values."""
    status, out, errors = await _helm(values, kube)
    assert 0 == status, errors
    return [each for each in yaml.safe_load_all(out) if each]


async def refused(values: Manifest) -> str:
    """What the chart says to values that it does not take."""
    status, _, errors = await _helm(values, "1.34.0")
    assert 0 != status
    return errors


async def _helm(values: Manifest, kube: str) -> tuple[int, str, str]:
    helm = (await built_programs()).helm
    command = [
        str(helm), "template", "keyferry", str(CHART), "--namespace=kube-system",
        f"--kube-version={kube}", "--values=-",
    ]  # fmt: skip
    run = await asyncio.to_thread(
        subprocess.run,
        command,
        input=yaml.safe_dump(values),
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout, run.stderr


def one(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The only manifest of a kind (and name)."""
    (found,) = [
        each
        for each in manifests
        if each["kind"] == kind and (not name or each["metadata"]["name"] == name)
    ]
    return found


def container(manifests: list[Manifest]) -> Manifest:
    """The only container."""
    (found,) = one(manifests, "DaemonSet")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def rights(manifests: list[Manifest], kind: str, name: str) -> dict[str, list[str]]:
    """Verbs by resource."""
    rules = one(manifests, kind, name)["rules"]
    return {resource: rule["verbs"] for rule in rules for resource in rule["resources"]}


def about_secrets(manifests: list[Manifest]) -> list[Manifest]:
    """The roles that give a right to Secrets."""
    return [
        each
        for each in manifests
        if any("secrets" in rule["resources"] for rule in each.get("rules", ()))
    ]


SECRETS = {"apiGroups": [""], "resources": ["secrets"]}


KEYS = ["openbao-csi-provider-hmac-key", "vault-csi-provider-hmac-key"]


async def test_by_default_there_is_no_right_to_any_secret_but_to_get_the_keys_of_versions() -> None:
    """By name, in the namespace of the driver. Reasons: docs/concepts/security-model.md."""
    manifests = await render({})
    assert rights(manifests, "ClusterRole", "secretproviderclasses-role") == {
        "secretproviderclasses": ["get", "list", "watch"],
        "secretproviderclasspodstatuses": ["get", "list", "watch", "create", "patch"],
        "pods": ["get", "list", "watch"],
        "events": ["create", "patch"],
    }
    (keys,) = about_secrets(manifests)
    assert ("Role", "kube-system") == (keys["kind"], keys["metadata"]["namespace"])
    assert [{**SECRETS, "resourceNames": KEYS, "verbs": ["get"]}] == keys["rules"]


@pytest.mark.parametrize(
    ("values", "rules", "flags"),
    [
        (
            {"versionHmac": {"create": True, "secretNames": {"vault": "x"}}},
            [
                {**SECRETS, "resourceNames": [KEYS[0], "x"], "verbs": ["get"]},
                {**SECRETS, "verbs": ["create"]},
            ],
            {"--vault-hmac-secret-name=x"},
        ),
        (
            {"builtinProviders": ["azure", "openbao"]},
            [{**SECRETS, "resourceNames": [KEYS[0]], "verbs": ["get"]}],
            set(),
        ),
        ({"builtinProviders": ["azure"]}, [], set()),
        (
            {"versionHmac": {"enabled": False}},
            [],
            {"--vault-hmac-secret-name=", "--openbao-hmac-secret-name="},
        ),
    ],
)
async def test_the_keys_of_versions(
    values: Manifest, rules: list[Manifest], flags: set[str]
) -> None:
    """Those of the providers that are built in; without a cluster to look at none is made."""
    manifests = await render(values)
    assert rules == [rule for role in about_secrets(manifests) for rule in role["rules"]]
    assert flags == {flag for flag in container(manifests)["args"] if "hmac" in flag}
    assert "Secret" not in {each["kind"] for each in manifests}


async def test_secrets_are_written_in_the_listed_namespaces_only() -> None:
    """A Role in each of them, and nothing for the whole cluster."""
    manifests = await render(
        {
            "syncSecret": {"enabled": True, "namespaces": ["shop", "web"]},
            "versionHmac": {"enabled": False},
        }
    )
    assert [("Role", "shop"), ("Role", "web")] == [
        (each["kind"], each["metadata"]["namespace"]) for each in about_secrets(manifests)
    ]
    bound = [each for each in manifests if "RoleBinding" == each["kind"]]
    assert ["shop", "web"] == [each["metadata"]["namespace"] for each in bound]
    assert {"kube-system"} == {each["subjects"][0]["namespace"] for each in bound}


async def test_the_whole_cluster_must_be_asked_for() -> None:
    """With upstream's names, so that its tooling finds them."""
    manifests = await render({"syncSecret": {"enabled": True, "clusterWide": True}})
    assert rights(manifests, "ClusterRole", "secretprovidersyncing-role") == {
        "secrets": ["get", "list", "watch", "create", "patch", "delete"]
    }
    one(manifests, "ClusterRoleBinding", "secretprovidersyncing-rolebinding")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"syncSecret": {"enabled": True}}, "list the namespaces in syncSecret.namespaces"),
        ({"syncSecret": {"namespaces": ["shop"]}}, "also set syncSecret.enabled=true"),
        ({"syncSecret": {"namespace": ["shop"]}}, "namespace"),
        (
            {"syncSecret": {"enabled": True, "namespaces": ["shop", "shop"]}},
            "/syncSecret/namespaces",
        ),
        (
            {"syncSecret": {"enabled": True, "namespaces": ["shop"], "clusterWide": True}},
            "remove syncSecret.namespaces or syncSecret.clusterWide",
        ),
        ({"linux": {"metricsAddr": 8095}}, "/linux/metricsAddr"),
        ({"linux": {"metricsAddr": "8095"}}, "/linux/metricsAddr"),
        ({"rotationPollInterval": "often"}, "rotationPollInterval"),
        ({"cache": {"ttl": "often"}}, "/cache/ttl"),
        ({"cache": {"ttls": "5s"}}, "ttls"),
        ({"vaultLimits": {"burst": 0}}, "/vaultLimits/burst"),
        ({"versionHmac": {"enabled": False, "create": True}}, "remove versionHmac.create"),
        ({"versionHmac": {"secretNames": {"vault": "A_b"}}}, "/versionHmac/secretNames/vault"),
        ({"linux": {"kubeletRootDir": "kubelet"}}, "kubeletRootDir"),
        ({"tokenRequests": ["aud"]}, "tokenRequests"),
        ({"secrets-store-csi-driver": {"enableSecretRotation": True}}, "move the values below it"),
        ({"csi": {"enabled": True}}, "move csi.extraArgs to linux.extraArgs"),
        ({"constructPEMChain": False}, "[--construct-pem-chain=false]"),
        ({"writeCertAndKeyInSeparateFiles": True}, "--write-cert-and-key-in-separate-files=true"),
        (
            {"linux": {"image": {"repository": "registry.k8s.io/csi-secrets-store/driver"}}},
            "linux.image.repository",
        ),
    ],
)
async def test_values_that_cannot_be_meant_are_refused(values: Manifest, said: str) -> None:
    """Before anything is installed, and with the name of the value."""
    assert said in await refused(values)


async def test_how_vaults_are_spared_reaches_the_driver() -> None:
    """As flags; what says nothing leaves the flag out."""
    plain = container(await render({}))["args"]
    assert [] == [
        flag
        for flag in plain
        if flag.startswith(("--cache-", "--negative-", "--list-", "--vault-"))
    ]
    values = {
        "cache": {"ttl": "5s", "negativeTTL": "0", "maxBytes": 16777216, "listRevalidation": False},
        "vaultLimits": {"qps": 0, "burst": 7, "maxConcurrency": 8},
    }
    given = container(await render(values))["args"]
    assert {
        "--cache-ttl=5s",
        "--negative-cache-ttl=0",
        "--cache-max-bytes=16777216",
        "--list-revalidation=false",
        "--vault-qps=0",
        "--vault-burst=7",
        "--vault-max-concurrency=8",
    } == set(given) - set(plain)


async def test_the_values_of_upstream_reach_the_driver() -> None:
    """As flags of the same names."""
    values = {
        "enableSecretRotation": True,
        "rotationPollInterval": "30s",
        "logVerbosity": 5,
        "logFormatJSON": True,
        "providerHealthCheck": True,
        "providerHealthCheckInterval": "1m",
        "maxCallRecvMsgSize": 8388608,
        "linux": {
            "kubeletRootDir": "/opt/kubelet",
            "providersDir": "/providers",
            "additionalProvidersDirs": ["/more", "/most"],
            "metricsAddr": ":9000",
            "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
            "podLabels": {"team": "platform"},
            "priorityClassName": "system-node-critical",
        },
        "livenessProbe": {"port": 9999},
    }
    manifests = await render(values)
    main = container(manifests)
    assert {
        "--enable-secret-rotation=true",
        "--rotation-poll-interval=30s",
        "-v=5",
        "--log-format-json=true",
        "--provider-health-check=true",
        "--provider-health-check-interval=1m",
        "--max-call-recv-msg-size=8388608",
        "--provider-volume=/providers",
        "--additional-provider-volume-paths=/more,/most",
        "--metrics-addr=:9000",
        "--health-addr=:9999",
        "--kubelet-registration-path=/opt/kubelet/plugins/csi-secrets-store/csi.sock",
    } <= set(main["args"])
    assert {"healthz": 9999, "metrics": 9000} == {
        port["name"]: port["containerPort"] for port in main["ports"]
    }
    assert {"name": "HTTPS_PROXY", "value": "http://proxy"} in main["env"]
    spec = one(manifests, "DaemonSet")["spec"]["template"]
    assert "platform" == spec["metadata"]["labels"]["team"]
    assert "system-node-critical" == spec["spec"]["priorityClassName"]
    mounts = {each["mountPath"]: each for each in main["volumeMounts"]}
    providers = {"/providers", "/more", "/most"}
    assert {"/csi", "/registration", "/opt/kubelet/pods", "/leases", *providers} == {*mounts}
    assert "Bidirectional" == mounts["/opt/kubelet/pods"]["mountPropagation"]


@pytest.mark.parametrize("values", [{}, {"enableSecretRotation": True, "startupTaint": "x/y"}])
async def test_every_flag_in_the_chart_is_one_of_the_driver(values: Manifest) -> None:
    """A flag that was renamed would only show when the pod does not start."""
    given = [each.lstrip("-").partition("=")[0] for each in container(await render(values))["args"]]
    assert set(given[1:]) <= {flag.name for flag in DRIVER_FLAGS}
    assert "driver" == given[0]


async def test_a_taint_needs_a_right_to_nodes() -> None:
    """Which nobody else is given."""
    manifests = await render({"startupTaint": "keyferry/agent-not-ready"})
    assert ["get", "patch"] == rights(manifests, "ClusterRole", "secretproviderclasses-role")[
        "nodes"
    ]


@pytest.mark.parametrize(("kube", "there"), [("1.34.0", False), ("1.35.0", True)])
async def test_tokens_are_requested(kube: str, there: bool) -> None:
    """In the secrets of the call where Kubernetes can do so, as upstream asks for."""
    audience = {"audience": "api://AzureADTokenExchange"}
    spec = one(await render({"tokenRequests": [audience]}, kube=kube), "CSIDriver")["spec"]
    assert [audience] == spec["tokenRequests"]
    assert there == spec.get("serviceAccountTokenInSecrets", False)


async def test_republishing_is_asked_for_when_secrets_rotate() -> None:
    """As upstream's chart does."""
    for rotate in (True, False):
        spec = one(await render({"enableSecretRotation": rotate}), "CSIDriver")["spec"]
        assert rotate == spec["requiresRepublish"]


async def test_the_plain_manifests_are_the_chart(tmp_path: Path) -> None:
    """deploy/keyferry.yaml is what scripts/deploy.sh makes of the chart."""
    made = tmp_path / "keyferry.yaml"
    await asyncio.to_thread(subprocess.run, [ROOT / "scripts" / "deploy.sh", made], check=True)
    assert made.read_text() == (ROOT / "deploy" / "keyferry.yaml").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
async def test_the_installation_commands_of_the_documentation_render(
    page: str, tmp_path: Path
) -> None:
    """With the values file that the page shows, if there is one; the image is the one to build."""
    text = (ROOT / page).read_text()
    (command,) = re.findall(r"^ *\$ helm install (.*)$", text, re.MULTILINE)
    values = re.findall(r"^( *)```yaml\n( *linux:\n.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    for _, block in values:
        (tmp_path / "values.yaml").write_text(dedent(block))
    helm = (await built_programs()).helm
    arguments = command.replace("--values values.yaml", f"--values={tmp_path}/values.yaml").split()
    run = await asyncio.to_thread(
        subprocess.run,
        [str(helm), "template", *arguments, "--kube-version=1.34.0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == run.returncode, run.stderr
    manifests = [each for each in yaml.safe_load_all(run.stdout) if each]
    (image,) = re.findall(r"podman push (\S+)", text)
    assert image == container(manifests)["image"]
