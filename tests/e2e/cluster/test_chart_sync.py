"""The SecretSync controller in the rendered Helm chart: what it may do, and what it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyferry.cli.daemons.sync_controller import SYNC_CONTROLLER_FLAGS, settings_from
from keyferry.cli.flags.go_flags import parse_flags
from tests.e2e.cluster.chart import Manifest, one, refused, render
from tests.unit.chart.values import CHART, defaults, merged

ROOT = Path(__file__).parents[3]
ALONE: Manifest = {"driver": {"enabled": False}, "secretSync": {"enabled": True}}
NAME = "keyferry-sync"


def values(**sync: Any) -> Manifest:
    """Values for the controller alone, in one namespace."""
    return merged(ALONE, {"secretSync": {"namespaces": ["shop"], **sync}})


def controller(manifests: list[Manifest]) -> Manifest:
    """Return the container of the controller."""
    found = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert isinstance(found, dict)
    return found


def rules_of(manifests: list[Manifest], kind: str) -> Iterator[tuple[str, str, set[str]]]:
    """The place, resource (with names) and verbs of each rule of the controller."""
    for each in manifests:
        if each["kind"] == kind and "aggregate" not in str(each["metadata"]["labels"]):
            for rule in each["rules"]:
                for resource in rule["resources"]:
                    names = ",".join(rule.get("resourceNames", ()))
                    place = each["metadata"].get("namespace", "")
                    yield place, f"{resource}/{names}".rstrip("/"), set(rule["verbs"])


READ = {"get", "list", "watch"}
WRITE = {"create", "patch", "delete"}


async def test_nothing_of_the_driver_is_installed_without_it() -> None:
    """Also with everything else of the chart."""
    more: Manifest = {name: {"enabled": True} for name in ("podMonitor", "networkPolicy")}
    manifests = await render(merged(values(replicas=1), {**more, "startupTaint": ""}))
    assert {
        "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Deployment",
        "NetworkPolicy", "PodMonitor", "Role", "RoleBinding", "ServiceAccount",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    } == {each["kind"] for each in manifests}  # fmt: skip
    text = yaml.safe_dump_all(manifests)
    assert "secrets-store-csi-driver" not in text
    assert "hostPath" not in text
    named = {each["metadata"]["name"] for each in manifests}
    assert [] == [each for each in named if not each.startswith((NAME, "secretsyncs."))]


async def test_the_controller_changes_nothing_of_the_driver() -> None:
    """With both, the manifests of the driver are those without the controller."""
    both = await render(merged(values(), {"driver": {"enabled": True}}))
    alone = await render(values())
    driver = await render({})

    def keys(manifests: list[Manifest]) -> list[str]:
        return sorted(yaml.safe_dump(each) for each in manifests)

    assert keys(both) == keys([*alone, *driver])


async def test_permissions_in_listed_namespaces() -> None:
    """Secrets and tokens only there; of the cluster it reads SecretSyncs and their classes."""
    manifests = await render(values(namespaces=["shop", "web"]))
    assert [
        ("", "secretsyncs", READ),
        ("", "secretsyncs/status", {"patch", "update"}),
        ("", "secretproviderclasses", READ),
        ("", "events", {"create", "patch"}),
    ] == list(rules_of(manifests, "ClusterRole"))
    hmac = "secrets/openbao-csi-provider-hmac-key,vault-csi-provider-hmac-key"
    assert [
        ("shop", "secrets", READ | WRITE),
        ("shop", "serviceaccounts/token", {"create"}),
        ("web", "secrets", READ | WRITE),
        ("web", "serviceaccounts/token", {"create"}),
        ("kube-system", "leases", {"create"}),
        ("kube-system", f"leases/{NAME}", {"get", "update"}),
        ("kube-system", hmac, {"get"}),
    ] == list(rules_of(manifests, "Role"))
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": "kube-system"}
    for each in manifests:
        if each["kind"].endswith("RoleBinding"):
            assert [subject] == each["subjects"]
    assert NAME == one(manifests, "ServiceAccount")["metadata"]["name"]


async def test_cluster_wide_permissions_must_be_enabled_explicitly() -> None:
    """And are the same permissions."""
    listed, wide = await render(values()), await render(values(clusterWide=True, namespaces=[]))
    in_namespace = [rule for place, *rule in rules_of(listed, "Role") if place == "shop"]
    more = [rule for _, *rule in rules_of(wide, "ClusterRole")][4:]
    assert in_namespace == more
    assert {"kube-system"} == {place for place, *_ in rules_of(wide, "Role")}
    assert "--namespaces=*" in controller(wide)["args"]
    assert "--namespaces=shop" in controller(listed)["args"]


async def test_service_accounts_are_read_if_they_must_opt_in() -> None:
    """Otherwise there is neither the permission nor the policy."""
    resources = [each for _, each, _ in rules_of(await render(values()), "Role")]
    assert "serviceaccounts" not in resources
    manifests = await render(values(serviceAccountOptIn=True))
    assert ("shop", "serviceaccounts", READ) in list(rules_of(manifests, "Role"))
    assert "--service-account-opt-in=true" in controller(manifests)["args"]


async def test_the_pod_has_no_privileges() -> None:
    """It meets the Pod Security Standard restricted."""
    manifests = await render(values())
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert controller(manifests)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert {"providervol": {}, "leases": {"medium": "Memory", "sizeLimit": "64Mi"}} == {
        each["name"]: each["emptyDir"] for each in pod["volumes"]
    }
    mounts = {each["name"]: each["mountPath"] for each in controller(manifests)["volumeMounts"]}
    assert {"--lease-dir=/leases/keyferry", "--provider-volume=/provider"} <= set(
        controller(manifests)["args"]
    )
    assert {"providervol": "/provider", "leases": "/leases"} == mounts


async def test_values_become_flags() -> None:
    """Also those that the controller shares with the driver."""
    shared: Manifest = {
        "builtinProviders": ["azure"],
        "logVerbosity": 2,
        "logFormatJSON": True,
        "audit": {"log": "/var/log/keyferry/audit.log", "maxBytes": 5},
        "cache": {"ttl": "5s"},
        "vaultLimits": {"qps": 0},
        "vault": {"allowedAddresses": ["vault:8200"]},
        "azure": {"allowedTenants": ["contoso.example"]},
        "leaseDir": "",
    }
    sync = values(
        controllerName="second",
        defaultController=False,
        rotationPollInterval="10m",
        tokenRequests=[{"audience": "one"}, {"audience": "two"}],
        tokenBinding="node",
        legacyConditions=True,
        extraArgs=["--zap-log-level=debug"],
        extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy"}],
    )
    manifests = await render(merged(shared, sync))
    main = controller(manifests)
    assert "sync-controller" == main["args"][0]
    assert {
        "--leader-elect=true", "--controller-name=second", "--default-controller=false",
        "--rotation-poll-interval=10m", "--token-request-audience=one,two", "--token-binding=node",
        "--legacy-conditions=true", "--builtin-providers=azure", "--cache-ttl=5s", "--vault-qps=0",
        "--allowed-vault-addresses=vault:8200", "--azure-allowed-tenants=contoso.example",
        "--log-format-json=true", "-v=2", "--zap-log-level=debug",
    } <= set(main["args"])  # fmt: skip
    assert not [each for each in main["args"] if "audit" in each or "lease-dir" in each]
    fields = {
        each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"]
        for each in main["env"]
        if "valueFrom" in each
    }
    assert fields == {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_UID": "metadata.uid",
        "NODE_NAME": "spec.nodeName",
        "KEYFERRY_NODE_ADDRESSES": "status.hostIP",
    }
    assert {"name": "HTTPS_PROXY", "value": "http://proxy"} in main["env"]
    leases = [each for _, each, _ in rules_of(manifests, "Role") if each.startswith("leases/")]
    assert ["leases/keyferry-sync-second"] == leases
    without = await render(merged(values(), {"audit": {"log": "none"}}))
    assert "--audit-log=none" in controller(without)["args"]


async def test_every_flag_in_the_chart_is_one_of_the_controller() -> None:
    """And its values are valid."""
    for sync in ({}, {"legacyConditions": True, "tokenBinding": "node"}):
        command, *arguments = controller(await render(values(**sync)))["args"]
        assert "sync-controller" == command
        flags = [each.lstrip("-").partition("=")[0] for each in arguments]
        assert set(flags) <= {flag.name for flag in SYNC_CONTROLLER_FLAGS}
        pod = ["--pod-name=a", "--pod-namespace=b", "--pod-uid=c", "--node-name=d"]
        settings_from(parse_flags([*arguments, *pod], SYNC_CONTROLLER_FLAGS))


async def test_one_pod_is_always_available() -> None:
    """A budget for one Pod would prevent the drain of its node."""
    manifests = await render(values())
    deployment = one(manifests, "Deployment")["spec"]
    budget = one(manifests, "PodDisruptionBudget")["spec"]
    assert (2, 1) == (deployment["replicas"], budget["minAvailable"])
    labels = deployment["template"]["metadata"]["labels"]
    selector = {"app": NAME, "app.kubernetes.io/instance": "keyferry"}
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert selector.items() <= labels.items()
    for each in (deployment["selector"], budget["selector"], spread["labelSelector"]):
        assert {"matchLabels": selector} == each
    single = await render(values(replicas=1))
    assert "PodDisruptionBudget" not in {each["kind"] for each in single}


async def test_places_of_the_pods_can_be_chosen() -> None:
    """A constraint with a selector of its own keeps it."""
    own = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "other"}},
    }
    pod = one(
        await render(
            values(
                nodeSelector={"pool": "a"},
                tolerations=[{"operator": "Exists"}],
                affinity={"nodeAffinity": {}},
                priorityClassName="system-cluster-critical",
                topologySpreadConstraints=[own],
                podAnnotations={"a": "b"},
            )
        ),
        "Deployment",
    )["spec"]["template"]
    assert "b" == pod["metadata"]["annotations"]["a"]
    assert {"pool": "a", "kubernetes.io/os": "linux"} == pod["spec"]["nodeSelector"]
    assert [{"operator": "Exists"}] == pod["spec"]["tolerations"]
    assert {"nodeAffinity": {}} == pod["spec"]["affinity"]
    assert "system-cluster-critical" == pod["spec"]["priorityClassName"]
    assert [own] == pod["spec"]["topologySpreadConstraints"]


async def test_external_providers_share_a_folder_with_the_controller() -> None:
    """With the name that upstream's chart gives the volume."""
    mounts = [{"name": "providervol", "mountPath": "/provider"}]
    provider = {"name": "aws", "image": "registry.example.com/aws", "volumeMounts": mounts}
    manifests = await render(values(providerContainer=[provider]))
    pod = one(manifests, "Deployment")["spec"]["template"]
    assert provider in pod["spec"]["containers"]
    assert "sync-controller" == controller(manifests)["name"]
    said = await refused(values(providerContainer=[{"name": "aws", "image": "a"}]))
    assert "the controller cannot see the socket of the container aws" in said


async def test_monitoring_and_network_policy_cover_the_controller() -> None:
    """By the ports of its container; its series have a job of their own."""
    manifests = await render(
        merged(
            values(),
            {
                "driver": {"enabled": True},
                "podMonitor": {"enabled": True, "labels": {"release": "stack"}},
                "networkPolicy": {"enabled": True},
            },
        )
    )
    deployment = one(manifests, "Deployment")["spec"]
    monitor = one(manifests, "PodMonitor", NAME)
    policy = one(manifests, "NetworkPolicy", NAME)["spec"]
    assert deployment["selector"] == monitor["spec"]["selector"] == policy["podSelector"]
    assert NAME == deployment["template"]["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    assert "stack" == monitor["metadata"]["labels"]["release"]
    ports = {each["name"] for each in controller(manifests)["ports"]}
    assert {each["ports"][0]["port"] for each in policy["ingress"]} == ports
    one(manifests, "PodMonitor", "keyferry")
    one(manifests, "NetworkPolicy", "keyferry")


async def test_the_crd_remains_after_an_uninstall() -> None:
    """And is the file of deploy/crds; GKE's has another group and no short name."""
    manifests = await render(values(gkeCrd=True))
    plain = yaml.safe_load((ROOT / "deploy" / "crds" / "secretsyncs.yaml").read_text())
    own, gke = (each for each in manifests if "CustomResourceDefinition" == each["kind"])
    assert plain["spec"] == own["spec"]
    for each in (own, gke):
        assert "keep" == each["metadata"]["annotations"]["helm.sh/resource-policy"]
    assert "secretsyncs.secret-sync.gke.io" == gke["metadata"]["name"]
    assert ("secret-sync.gke.io", "v1") == (
        gke["spec"]["group"],
        gke["spec"]["versions"][0]["name"],
    )
    assert "secret-sync.x-k8s.io" not in yaml.safe_dump(gke)
    assert plain["spec"]["versions"][0]["schema"] == gke["spec"]["versions"][0]["schema"]
    assert [] == gke["spec"]["names"]["shortNames"]
    skipped = await render(values(gkeCrd=True, crd="skip"))
    assert "CustomResourceDefinition" not in {each["kind"] for each in skipped}


async def test_policies_apply_to_the_service_account_of_the_controller() -> None:
    """To no other user, and each has its binding."""
    manifests = await render(values(serviceAccountOptIn=True))
    policies = [each for each in manifests if "ValidatingAdmissionPolicy" == each["kind"]]
    bindings = [each for each in manifests if "ValidatingAdmissionPolicyBinding" == each["kind"]]
    assert 5 == len(policies)
    for each in policies:
        (condition,) = each["spec"]["matchConditions"]
        assert "Fail" == each["spec"]["failurePolicy"]
        assert condition["expression"] == (
            f"request.userInfo.username == 'system:serviceaccount:kube-system:{NAME}'"
        )
    names = [each["metadata"]["name"] for each in policies]
    assert names == [each["spec"]["policyName"] for each in bindings]
    assert {"Deny"} == {each["spec"]["validationActions"][0] for each in bindings}
    without = await render(values(admissionPolicies={"enabled": False}))
    assert not [each for each in without if "Policy" in each["kind"]]


async def test_names_of_upstream_are_accepted() -> None:
    """As long as they do not contradict the values of this chart."""
    mounts = [{"name": "providervol", "mountPath": "/provider"}]
    provider = {"name": "aws", "image": "registry.example.com/aws", "volumeMounts": mounts}
    upstream: Manifest = {
        "tokenRequestAudience": [{"audience": "sts.amazonaws.com"}],
        "providerContainer": [provider],
        "controllerName": "second",
        "validatingAdmissionPolicies": {
            "applyPolicies": True,
            "allowedSecretTypes": ["Opaque", "kubernetes.io/tls", "example.com/a"],
            "deniedSecretTypes": ["example.com/a"],
        },
    }
    own = values(
        tokenRequests=[{"audience": "sts.amazonaws.com"}],
        providerContainer=[provider],
        controllerName="second",
        admissionPolicies={"allowedSecretTypes": ["Opaque", "kubernetes.io/tls"]},
    )
    assert await render(own) == await render(merged(values(), upstream))
    del upstream["validatingAdmissionPolicies"]["deniedSecretTypes"]
    own["secretSync"]["admissionPolicies"] = {
        "allowedSecretTypes": ["Opaque", "kubernetes.io/tls", "example.com/a"]
    }
    assert await render(own) == await render(merged(own, upstream))
    off = merged(values(), {"validatingAdmissionPolicies": {"applyPolicies": False}})
    assert await render(values(admissionPolicies={"enabled": False})) == await render(off)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"secretSync": {"enabled": False}},
            "driver.enabled and secretSync.enabled are both false",
        ),
        ({"secretSync": {"namespaces": []}}, "list the namespaces in secretSync.namespaces"),
        ({"secretSync": {"clusterWide": True}}, "remove secretSync.namespaces or secretSync.clust"),
        ({"secretSync": {"replicas": 0}}, "secretSync.replicas: 0 Pods would sync nothing: set 1"),
        (
            {"secretSync": {"crd": "always"}},
            'secretSync.crd: "always" is not a mode: set auto, keep',
        ),
        ({"secretSync": {"tokenBinding": "pod"}}, 'cannot be bound to "pod": set none or node'),
        (
            {
                "secretSync": {
                    "admissionPolicies": {
                        "allowedSecretTypes": ["kubernetes.io/service-account-token"]
                    }
                }
            },
            "remove the type",
        ),
        (
            {"secretSync": {"admissionPolicies": {"allowedSecretTypes": []}}},
            "without a type, every Secret is refused",
        ),
        (
            {"driver": {"enabled": True}, "secretSync": {"enabled": False}},
            "also set secretSync.enabled=true",
        ),
        (
            {
                "driver": {"enabled": True},
                "secretSync": {"enabled": False, "namespaces": []},
                "tokenRequestAudience": [{"audience": "a"}],
            },
            "tokenRequestAudience: a value of upstream's chart of the SecretSync controller",
        ),
        (
            {"tokenRequestAudience": [{"audience": "a"}], "secretSync": {"tokenRequests": []}},
            "secretSync.tokenRequests and tokenRequestAudience are both set and differ",
        ),
        (
            {"controllerName": "a", "secretSync": {"controllerName": "b"}},
            "secretSync.controllerName and controllerName are both set and differ",
        ),
        (
            {
                "validatingAdmissionPolicies": {"applyPolicies": True},
                "secretSync": {"admissionPolicies": {"enabled": False}},
            },
            "enabled and validatingAdmissionPolicies.applyPolicies are both set and differ",
        ),
        ({"rotationPollInterval": "12h"}, "set secretSync.rotationPollInterval"),
        (
            {"syncSecret": {"enabled": True, "namespaces": ["a"]}},
            "syncSecret.enabled has no effect",
        ),
        (
            {"linux": {"image": {"repository": "registry.k8s.io/secrets-store-sync/controller"}}},
            "is an upstream image",
        ),
    ],
)
async def test_invalid_values_are_rejected(changed: Manifest, said: str) -> None:
    """With the name of the value, and what to set instead."""
    assert said in await refused(merged(values(), changed))


def test_the_defaults_of_the_templates_are_those_of_the_values() -> None:
    """The templates need them for `helm upgrade --reuse-values` of an older chart."""
    text = (CHART / "templates" / "_sync.tpl").read_text()
    (block,) = re.findall(
        r'define "keyferry.syncDefaults" -}}\n(.*?)\n{{- end -}}', text, re.DOTALL
    )
    assert defaults()["secretSync"] == yaml.safe_load(block)


async def test_values_of_an_older_chart_are_enough() -> None:
    """`helm upgrade --reuse-values --set secretSync.enabled=true` knows no other value of it."""
    added = dict.fromkeys(name for name in defaults()["secretSync"] if name != "enabled")
    few = {"driver": None, "secretSync": {**added, "enabled": True, "clusterWide": True}}
    assert await render({"secretSync": {"enabled": True, "clusterWide": True}}) == await render(few)
