"""The rendered Helm chart: upstream's values keep their meaning, and permissions are minimal."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from keyferry.cli.daemons.driver import DRIVER_FLAGS
from keyferry.cli.flags.restrictions import NODE_ADDRESSES_VARIABLE
from keyferry.providers.restrictions import CLASS_FILE_FOLDERS
from scripts.image.__main__ import default_name
from tests.e2e.cluster.chart import Manifest, container, one, refused, render
from tests.e2e.cluster.programs import built_programs
from tests.unit.chart.values import CHART

ROOT = Path(__file__).parents[3]


def rights(manifests: list[Manifest], kind: str, name: str) -> dict[str, list[str]]:
    """Return the verbs of a role by resource."""
    rules = one(manifests, kind, name)["rules"]
    return {resource: rule["verbs"] for rule in rules for resource in rule["resources"]}


def about_secrets(manifests: list[Manifest]) -> list[Manifest]:
    """Return the roles with permissions on Secrets."""
    return [
        each
        for each in manifests
        if any("secrets" in rule["resources"] for rule in each.get("rules", ()))
    ]


SECRETS = {"apiGroups": [""], "resources": ["secrets"]}


KEYS = ["openbao-csi-provider-hmac-key", "vault-csi-provider-hmac-key"]


async def test_by_default_only_the_hmac_secrets_can_be_read() -> None:
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
async def test_permissions_on_hmac_secrets(
    values: Manifest, rules: list[Manifest], flags: set[str]
) -> None:
    """Only for built-in providers; a render without a cluster creates no Secret."""
    manifests = await render(values)
    assert rules == [rule for role in about_secrets(manifests) for rule in role["rules"]]
    assert flags == {flag for flag in container(manifests)["args"] if "hmac" in flag}
    assert "Secret" not in {each["kind"] for each in manifests}


async def test_secrets_are_written_in_the_listed_namespaces_only() -> None:
    """One Role per namespace, and no ClusterRole."""
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


async def test_cluster_wide_sync_must_be_enabled_explicitly() -> None:
    """The roles have upstream's names, so that existing tools find them."""
    manifests = await render({"syncSecret": {"enabled": True, "clusterWide": True}})
    assert rights(manifests, "ClusterRole", "secretprovidersyncing-role") == {
        "secrets": ["get", "list", "watch", "create", "patch", "delete"]
    }
    one(manifests, "ClusterRoleBinding", "secretprovidersyncing-rolebinding")


async def test_cache_and_rate_limit_values_become_flags() -> None:
    """Values that are not set produce no flag."""
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
    flags = container(await render(values))["args"]
    assert {
        "--cache-ttl=5s",
        "--negative-cache-ttl=0",
        "--cache-max-bytes=16777216",
        "--list-revalidation=false",
        "--vault-qps=0",
        "--vault-burst=7",
        "--vault-max-concurrency=8",
    } == set(flags) - set(plain)


async def test_audit_log_can_be_a_file_on_the_node() -> None:
    """Its folder is mounted; nothing is mounted for the log of the driver."""
    plain = await render({})
    assert not [flag for flag in container(plain)["args"] if "audit" in flag]
    assert not [each for each in container(plain)["volumeMounts"] if "audit" in each["name"]]
    manifests = await render({"audit": {"log": "/var/log/keyferry/audit.log", "maxBytes": 0}})
    flags = set(container(manifests)["args"]) - set(container(plain)["args"])
    assert flags == {"--audit-log=/var/log/keyferry/audit.log", "--audit-log-max-bytes=0"}
    mount = {"name": "audit-dir", "mountPath": "/var/log/keyferry"}
    assert mount in container(manifests)["volumeMounts"]
    volumes = one(manifests, "DaemonSet")["spec"]["template"]["spec"]["volumes"]
    folder = {"path": "/var/log/keyferry", "type": "DirectoryOrCreate"}
    assert {"name": "audit-dir", "hostPath": folder} in volumes


async def test_values_of_upstream_become_flags() -> None:
    """With the names that upstream's flags have."""
    values = {
        "enableSecretRotation": True,
        "rotationPollInterval": "30s",
        "logVerbosity": 5,
        "logFormatJSON": True,
        "providerHealthCheck": True,
        "providerHealthCheckInterval": "1m",
        "maxCallRecvMsgSize": 8388608,
        "allowAttributeOverrides": False,
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
        "--allow-attribute-overrides=false",
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
    own = {"/csi", "/registration", "/opt/kubelet/pods", "/leases", "/leases-in-memory"}
    assert own | providers == {*mounts}
    assert "Bidirectional" == mounts["/opt/kubelet/pods"]["mountPropagation"]


async def test_restrictions_of_secret_provider_classes_become_flags() -> None:
    """By default only CA folders; the driver knows the address of its node."""
    main = container(await render({}))
    (folders,) = (each for each in main["args"] if each.startswith("--class-files-dirs="))
    assert ",".join(sorted(CLASS_FILE_FOLDERS)) == ",".join(
        sorted(folders.partition("=")[2].split(","))
    )
    assert not [each for each in main["args"] if "allowed" in each or "allow-local" in each]
    (address,) = (each for each in main["env"] if each["name"] == NODE_ADDRESSES_VARIABLE)
    assert {"fieldRef": {"fieldPath": "status.hostIP"}} == address["valueFrom"]
    values = {
        "classFiles": {"dirs": ["/vault/tls", "/etc/ssl/certs"]},
        "vault": {
            "allowedAddresses": ["*.example.com", "vault:8200"],
            "allowLocalAddresses": True,
        },
        "azure": {"allowedTenants": ["contoso.example", "fabrikam.example"]},
    }
    assert {
        "--class-files-dirs=/vault/tls,/etc/ssl/certs",
        "--allowed-vault-addresses=*.example.com,vault:8200",
        "--allow-local-addresses=true",
        "--azure-allowed-tenants=contoso.example,fabrikam.example",
    } <= set(container(await render(values))["args"])


@pytest.mark.parametrize("values", [{}, {"enableSecretRotation": True, "startupTaint": "x/y"}])
async def test_every_flag_in_the_chart_is_one_of_the_driver(values: Manifest) -> None:
    """Otherwise a renamed flag would only be noticed when the pod does not start."""
    arguments = [
        each.lstrip("-").partition("=")[0] for each in container(await render(values))["args"]
    ]
    assert set(arguments[1:]) <= {flag.name for flag in DRIVER_FLAGS}
    assert "driver" == arguments[0]


async def test_startup_taint_adds_a_permission_on_nodes() -> None:
    """Without the taint, there is no such permission."""
    manifests = await render({"startupTaint": "keyferry/agent-not-ready"})
    assert ["get", "patch"] == rights(manifests, "ClusterRole", "secretproviderclasses-role")[
        "nodes"
    ]


@pytest.mark.parametrize(("kube", "there"), [("1.34.0", False), ("1.35.0", True)])
async def test_tokens_are_requested(kube: str, there: bool) -> None:
    """In the secrets of the call if Kubernetes supports it, like upstream."""
    audience = {"audience": "api://AzureADTokenExchange"}
    spec = one(await render({"tokenRequests": [audience]}, kube=kube), "CSIDriver")["spec"]
    assert [audience] == spec["tokenRequests"]
    assert there == spec.get("serviceAccountTokenInSecrets", False)


async def test_republishing_is_required_if_rotation_is_enabled() -> None:
    """Like upstream's chart."""
    for rotate in (True, False):
        spec = one(await render({"enableSecretRotation": rotate}), "CSIDriver")["spec"]
        assert rotate == spec["requiresRepublish"]


async def test_plain_manifests_match_the_chart(tmp_path: Path) -> None:
    """The directory deploy is the output of scripts/deploy.sh, and the manifest of krew."""
    await asyncio.to_thread(subprocess.run, [ROOT / "scripts" / "deploy.sh", tmp_path], check=True)
    for path in {*(ROOT / "deploy").rglob("*.yaml")} - {ROOT / "deploy" / "krew" / "keyferry.yaml"}:
        assert path.read_text() == (tmp_path / path.relative_to(ROOT / "deploy")).read_text()


async def test_an_image_digest_replaces_the_tag() -> None:
    """So the image cannot change."""
    digest = f"sha256:{'0a' * 32}"
    image = {"repository": "registry.example/keyferry", "tag": "v1", "digest": digest}
    rendered = await render({"linux": {"image": image}})
    assert f"registry.example/keyferry@{digest}" == container(rendered)["image"]


async def test_the_container_has_no_more_rights_than_mounting_needs() -> None:
    """Kubernetes propagates the mounts of privileged containers only."""
    rendered = await render({})
    pod = one(rendered, "DaemonSet")["spec"]["template"]["spec"]
    assert False is pod["enableServiceLinks"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & pod.keys()
    assert {
        "privileged": True,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "runAsGroup": 0,
    } == container(rendered)["securityContext"]


async def test_names_and_selectors_of_an_installation_do_not_change() -> None:
    """An upgrade cannot change the selector; upstream's names keep existing tools working."""
    manifests = await render({})
    daemonset = one(manifests, "DaemonSet")
    assert "keyferry" == daemonset["metadata"]["name"]
    assert daemonset["spec"]["selector"]["matchLabels"] == {
        "app": "secrets-store-csi-driver",
        "app.kubernetes.io/instance": "keyferry",
    }
    assert "secrets-store.csi.k8s.io" == one(manifests, "CSIDriver")["metadata"]["name"]
    assert "secrets-store-csi-driver" == one(manifests, "ServiceAccount")["metadata"]["name"]
    assert {"DaemonSet", "CSIDriver", "ServiceAccount", "Pod"} == {
        each["kind"] for each in manifests if "Role" not in each["kind"]
    }


async def test_the_driver_is_critical_for_its_node() -> None:
    """Unless the value says otherwise, as in upstream's chart."""
    spec = one(await render({}), "DaemonSet")["spec"]["template"]["spec"]
    assert "system-node-critical" == spec["priorityClassName"]
    spec = one(await render({"linux": {"priorityClassName": ""}}), "DaemonSet")["spec"]["template"]
    assert "priorityClassName" not in spec["spec"]


async def test_the_service_account_can_be_named_or_exist_already() -> None:
    """All bindings follow."""
    account = {"name": "vaults", "annotations": {"a": "b"}, "labels": {"team": "platform"}}
    for create in (True, False):
        manifests = await render(
            {
                "serviceAccount": {**account, "create": create},
                "syncSecret": {"enabled": True, "namespaces": ["shop"]},
            }
        )
        bound = [each for each in manifests if each["kind"].endswith("RoleBinding")]
        assert 3 == len(bound)
        assert {"vaults"} == {each["subjects"][0]["name"] for each in bound}
        assert (
            "vaults"
            == one(manifests, "DaemonSet")["spec"]["template"]["spec"]["serviceAccountName"]
        )
        made = [each["metadata"] for each in manifests if "ServiceAccount" == each["kind"]]
        assert create == bool(made)
        for each in made:
            assert {"a": "b"} == each["annotations"]
            assert "platform" == each["labels"]["team"]


async def test_pod_settings_become_fields_of_the_pod() -> None:
    """None of them is set by default."""
    values = {
        "linux": {
            "podSecurityContext": {"seLinuxOptions": {"type": "spc_t"}},
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["10.0.0.10"]},
            "revisionHistoryLimit": 0,
        },
        "imagePullSecrets": [{"name": "registry"}],
    }
    plain = one(await render({}), "DaemonSet")["spec"]
    daemonset = one(await render(values), "DaemonSet")["spec"]
    names = {"securityContext", "dnsPolicy", "dnsConfig", "imagePullSecrets"}
    assert not names & plain["template"]["spec"].keys()
    assert "revisionHistoryLimit" not in plain
    assert 0 == daemonset["revisionHistoryLimit"]
    spec = daemonset["template"]["spec"]
    assert {"seLinuxOptions": {"type": "spc_t"}} == spec["securityContext"]
    assert ("None", {"nameservers": ["10.0.0.10"]}) == (spec["dnsPolicy"], spec["dnsConfig"])
    assert [{"name": "registry"}] == spec["imagePullSecrets"]
    on_host = one(await render({"linux": {"hostNetwork": True}}), "DaemonSet")["spec"]["template"]
    assert "ClusterFirstWithHostNet" == on_host["spec"]["dnsPolicy"]


async def test_additional_manifests_are_templates() -> None:
    """As a map or as text."""
    manifests = await render(
        {
            "extraObjects": [
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
                "kind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-more\n",
            ]
        }
    )
    assert "shop" == one(manifests, "Namespace")["metadata"]["name"]
    assert "keyferry-more" == one(manifests, "ConfigMap")["metadata"]["name"]


async def test_monitoring_is_installed_if_asked_for() -> None:
    """The monitor selects the Pods; the dashboard is the file of the chart."""
    values = {
        "podMonitor": {"enabled": True, "namespace": "monitoring", "labels": {"release": "stack"}},
        "grafanaDashboard": {"enabled": True, "annotations": {"grafana_folder": "Secrets"}},
        "prometheusRule": {"enabled": True},
    }
    manifests = await render(values)
    monitor = one(manifests, "PodMonitor")
    assert ("monitoring", "stack") == (
        monitor["metadata"]["namespace"],
        monitor["metadata"]["labels"]["release"],
    )
    daemonset = one(manifests, "DaemonSet")["spec"]
    assert daemonset["selector"] == monitor["spec"]["selector"]
    assert ["kube-system"] == monitor["spec"]["namespaceSelector"]["matchNames"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container(manifests)["ports"]}
    assert monitor["spec"]["jobLabel"] in daemonset["template"]["metadata"]["labels"]
    dashboard = one(manifests, "ConfigMap")
    assert "1" == dashboard["metadata"]["labels"]["grafana_dashboard"]
    assert json.loads(dashboard["data"]["keyferry.json"]) == json.loads(
        (CHART / "dashboards" / "keyferry.json").read_text()
    )
    one(manifests, "PrometheusRule")
    loopback = {**values, "linux": {"metricsAddr": "127.0.0.1:8095"}}
    assert "loopback address of linux.metricsAddr=127.0.0.1:8095" in await refused(loopback)


async def test_network_policy_permits_scrapes_and_probes() -> None:
    """Egress is not restricted until there are rules for it."""
    prometheus = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    }
    vault = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443}]}
    plain = one(await render({"networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert ["Ingress"] == plain["policyTypes"]
    assert [{"ports": [{"port": "metrics"}]}, {"ports": [{"port": "healthz"}]}] == plain["ingress"]
    policy = {"enabled": True, "metricsFrom": [prometheus], "egress": [vault]}
    spec = one(await render({"networkPolicy": policy}), "NetworkPolicy")["spec"]
    assert ["Ingress", "Egress"] == spec["policyTypes"]
    assert [prometheus] == spec["ingress"][0]["from"]
    dns, other = spec["egress"]
    assert {53} == {port["port"] for port in dns["ports"]}
    assert vault == other
    said = await refused({"networkPolicy": policy, "linux": {"hostNetwork": True}})
    assert "does not apply to Pods that use the network of the node" in said


async def test_plain_manifests_contain_no_test() -> None:
    """The Pod of `helm test` is a hook, which only Helm knows."""
    plain = list(yaml.safe_load_all((ROOT / "deploy" / "keyferry.yaml").read_text()))
    assert "Pod" not in {each["kind"] for each in plain}
    pod = one(await render({}), "Pod")
    assert "test" == pod["metadata"]["annotations"]["helm.sh/hook"]
    (only,) = pod["spec"]["containers"]
    assert only["args"] == [(CHART / "files" / "ready.py").read_text().rstrip("\n")]
    compile(only["args"][0], "ready.py", "exec")


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/getting-started.md",
        "docs/operations/install.md",
        "charts/keyferry/README.md",
    ],
)
async def test_documented_installation_commands_render(page: str, tmp_path: Path) -> None:
    """With the values file on the page, if any, and the image that the page builds or pushes."""
    text = (ROOT / page).read_text().replace(" \\\n", "")
    commands = re.findall(r"^ *\$ helm install (.*)$", text, re.MULTILINE)
    blocks = re.findall(r"^( *)```yaml\n( *linux:\n.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "values.yaml").write_text("".join(dedent(block) for _, block in blocks))
    pushed = re.findall(r"docker://([^\s`]+)", text)
    helm = (await built_programs()).helm
    assert commands
    for command in commands:
        own = command.endswith("--values values.yaml")
        arguments = command.replace("--values values.yaml", f"--values={tmp_path}/values.yaml")
        run = await asyncio.to_thread(
            subprocess.run,
            [str(helm), "template", *shlex.split(arguments), "--kube-version=1.34.0"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == run.returncode, run.stderr
        manifests = [each for each in yaml.safe_load_all(run.stdout) if each]
        (workload,) = (each for each in manifests if each["kind"] in {"DaemonSet", "Deployment"})
        image = workload["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image in (pushed if own and pushed else [default_name()])


async def test_values_for_a_local_image_need_a_namespace(tmp_path: Path) -> None:
    """The namespace is the one that the documentation creates; the image is never pulled."""
    values = yaml.safe_load((CHART / "values-local.yaml").read_text())
    manifests = await render(values)
    assert "Never" == container(manifests)["imagePullPolicy"]
    namespaces = {each["metadata"].get("namespace", "kube-system") for each in manifests}
    assert {"kube-system", "shop"} == namespaces
    for page in ("README.md", "docs/operations/install.md"):
        lines = (ROOT / page).read_text().splitlines()
        (created,) = (
            n for n, line in enumerate(lines) if "$ kubectl create namespace shop" in line
        )
        assert "--values charts/keyferry/values-local.yaml" in lines[created + 1]
