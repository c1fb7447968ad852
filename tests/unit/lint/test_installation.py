"""`keyferry.lint.cluster`: what is wrong with an installation, from manifests."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from keyferry.kubernetes.syncs.objects import ServiceAccountOptIn
from keyferry.lint.cluster.installation import (
    CsiDriver,
    Installation,
    MissingRight,
    Right,
    Workload,
    parse_csi_driver,
    parse_workloads,
)
from keyferry.lint.cluster.installation_checks import check_installation
from keyferry.lint.cluster.rights import controller_rights, driver_rights
from keyferry.lint.manifests import Manifests, read_manifests
from keyferry.records import replace
from tests.fakes.installation import DRIVER_ARGUMENTS, SYNC_ARGUMENTS, workload
from tests.fakes.syncs import sync_manifest
from tests.unit.lint.test_lint import GOOD, VAULT

AZURE = "api://AzureADTokenExchange"
DRIVER = Workload("DaemonSet", "keyferry", "keyferry", "csi", DRIVER_ARGUMENTS[1:])
CONTROLLER = Workload("Deployment", "keyferry", "keyferry-sync", "sync", SYNC_ARGUMENTS[1:])
CSI_DRIVER = CsiDriver(frozenset({AZURE, "vault"}), sends_pod_info=True, is_ephemeral=True)
ACCOUNTS: dict[tuple[str, str], ServiceAccountOptIn | None] = dict.fromkeys(
    [("shop", "default"), ("shop", "web")]
)
INSTALLED = Installation(CSI_DRIVER, True, (DRIVER,), (CONTROLLER,), ACCOUNTS)


def manifests(*texts: str, **sync: Any) -> Manifests:
    """Objects of a cluster: files, and a SecretSync with these fields if there are any."""
    documents = [*texts, *([yaml.safe_dump(sync_manifest(**sync))] if sync else [])]
    return read_manifests("cluster", "---\n".join(documents).encode())


def findings(installation: Installation, objects: Manifests) -> list[str]:
    """The findings as `rule subject: problem. remedy`."""
    found = check_installation(installation, objects)
    return [f"{f.rule.id} {f.subject}: {f.problem}. {f.remedy}" for f in found]


GOOD_OBJECTS = manifests(GOOD, VAULT, secretProviderClassName="api")


def test_a_good_installation_has_no_findings() -> None:
    """With volumes and SecretSyncs."""
    assert [] == findings(INSTALLED, GOOD_OBJECTS)


def test_what_may_not_be_read_is_not_checked() -> None:
    """A user without permissions gets warnings instead."""
    assert [] == findings(Installation(), GOOD_OBJECTS)


@pytest.mark.parametrize(
    ("csi_driver", "expected"),
    [
        (None, "csi-driver CSIDriver secrets-store.csi.k8s.io: it does not exist"),
        (replace(CSI_DRIVER, sends_pod_info=False), "csi-driver .*podInfoOnMount is not true"),
        (replace(CSI_DRIVER, is_ephemeral=False), "csi-driver .*lacks Ephemeral"),
        (
            replace(CSI_DRIVER, audiences=frozenset({"vault"})),
            "audience SecretProviderClass shop/web: .*AzureADTokenExchange, and .* has: vault. Add",
        ),
    ],
)
def test_csi_driver(csi_driver: CsiDriver | None, expected: str) -> None:
    """Kubelet cannot call the driver, or sends too little."""
    installed = replace(INSTALLED, csi_driver=csi_driver, has_csi_driver=csi_driver is not None)
    (found,) = findings(installed, GOOD_OBJECTS)
    assert re.match(expected, found), found


def test_a_cluster_with_only_the_controller_needs_no_csi_driver() -> None:
    """Nothing mounts a volume."""
    installed = replace(INSTALLED, csi_driver=None, has_csi_driver=False, drivers=())
    assert [] == findings(installed, manifests(VAULT, secretProviderClassName="api"))


def test_audience_of_a_class_for_volumes_and_syncs() -> None:
    """Kubelet sends tokens for volumes, the controller requests its own ones."""
    bare = replace(INSTALLED, csi_driver=replace(CSI_DRIVER, audiences=frozenset()))
    of_sync = manifests(VAULT, secretProviderClassName="api")
    assert [] == findings(bare, of_sync)
    pod = GOOD.partition("---\n")[2].replace("secretProviderClass: web", "secretProviderClass: api")
    both = manifests(VAULT, pod, secretProviderClassName="api")
    assert ["audience"] == [each.partition(" ")[0] for each in findings(bare, both)]
    (found,) = findings(bare, manifests(VAULT))
    assert "audience vault, and tokenRequests" in found
    creating = Workload("DaemonSet", "a", "b", "c", ("--vault-create-pod-tokens=true",))
    assert [] == findings(replace(bare, drivers=(creating,)), manifests(VAULT))
    assert [] == findings(replace(bare, drivers=()), manifests(VAULT))  # of upstream, perhaps
    flags = ("--token-request-audience=other",)
    installed = replace(INSTALLED, controllers=(replace(CONTROLLER, arguments=flags),))
    (found,) = findings(installed, of_sync)
    assert found.startswith("audience SecretSync shop/web: the SecretProviderClass needs a service")
    assert "only these are permitted: other" in found


def test_service_accounts() -> None:
    """That of a pod was deleted; that of a SecretSync does not exist, or does not opt in."""
    deleted = replace(INSTALLED, service_accounts={("shop", "web"): None})
    (found,) = findings(deleted, manifests(GOOD))
    assert "service-account Deployment shop/web: service account shop/default does not" in found
    of_sync = manifests(VAULT, secretProviderClassName="api", serviceAccountName="other")
    (found,) = findings(INSTALLED, of_sync)
    assert "service-account SecretSync shop/web: service account shop/other does not exist" in found

    opt_in = replace(CONTROLLER, arguments=(*CONTROLLER.arguments, "--service-account-opt-in"))
    strict = replace(INSTALLED, controllers=(opt_in,))
    of_sync = manifests(VAULT, secretProviderClassName="api")
    (found,) = findings(strict, of_sync)
    assert "Set the label secret-sync.x-k8s.io/allowed" in found
    for only, expected in ((None, 0), (frozenset({"web"}), 0), (frozenset({"a"}), 1)):
        permitted = {("shop", "web"): ServiceAccountOptIn("shop", "web", only)}
        assert expected == len(findings(replace(strict, service_accounts=permitted), of_sync))


@pytest.mark.parametrize(
    ("flags", "fields", "expected"),
    [
        (("--namespaces=other",), {}, "may not write Secrets in namespace 'shop'"),
        (("--controller-name=a",), {"secretSyncControllerName": "b"}, "'b'; there are: a"),
        (("--default-controller=false",), {}, "handles secretSyncControllerName ''"),
        (("--controller-name", "a"), {"secretSyncControllerName": "a"}, None),
        ((), {}, None),
    ],
)
def test_which_controller_handles_it(
    flags: tuple[str, ...], fields: dict[str, str], expected: str | None
) -> None:
    """By name and namespace."""
    controller = replace(CONTROLLER, arguments=("--token-request-audience=vault", *flags))
    of_sync = manifests(VAULT, secretProviderClassName="api", **fields)
    found = findings(replace(INSTALLED, controllers=(controller,)), of_sync)
    if expected is None:
        assert [] == found
    else:
        (one,) = found
        assert one.startswith("not-handled SecretSync shop/web: ")
        assert expected in one
    assert [] == findings(replace(INSTALLED, controllers=()), of_sync)  # another may handle it


def test_missing_rights_are_grouped() -> None:
    """One finding for each kind and namespace, with the value of the chart."""
    rights = [
        MissingRight(DRIVER, Right("create", "secrets", "shop")),
        MissingRight(DRIVER, Right("patch", "secrets", "shop")),
        MissingRight(DRIVER, Right("list", "pods")),
        MissingRight(DRIVER, Right("create", "serviceaccounts/token")),
        MissingRight(CONTROLLER, Right("create", "serviceaccounts/token", "shop")),
    ]
    found = findings(replace(INSTALLED, missing_rights=tuple(rights)), GOOD_OBJECTS)
    csi = "rbac DaemonSet keyferry/keyferry: its service account may not "
    sync = "rbac Deployment keyferry/keyferry-sync: its service account may not "
    assert [each.partition(". ")[0] for each in found] == [
        f"{csi}create, patch secrets in namespace shop",
        f"{csi}list pods in all namespaces",
        f"{csi}create serviceaccounts/token in all namespaces",
        f"{sync}create serviceaccounts/token in namespace shop",
    ]
    assert "Add shop to syncSecret.namespaces" in found[0]
    assert "rbac.install=true, or grant service account system:serviceaccount:keyferry" in found[1]
    assert "createPodTokens=true" in found[2]
    assert "Add shop to secretSync.namespaces" in found[3]


def test_rights_follow_the_objects() -> None:
    """Secrets only where a SecretProviderClass or SecretSync makes them, tokens where needed."""
    everywhere = {right.resource for right in driver_rights(DRIVER, GOOD_OBJECTS)}
    assert "serviceaccounts/token" not in everywhere
    creating = replace(DRIVER, arguments=("--openbao-create-pod-tokens=1",))
    assert Right("create", "serviceaccounts/token") in driver_rights(creating, GOOD_OBJECTS)
    secrets = [r for r in driver_rights(DRIVER, GOOD_OBJECTS) if r.resource == "secrets"]
    assert {"shop"} == {right.namespace for right in secrets}
    assert {"get", "list", "watch", "create", "patch", "delete"} == {r.verb for r in secrets}
    assert [] == [r for r in driver_rights(DRIVER, manifests(VAULT)) if r.resource == "secrets"]

    needed = controller_rights(CONTROLLER, GOOD_OBJECTS)
    assert Right("patch", "secretsyncs.secret-sync.x-k8s.io/status") in needed
    assert Right("create", "serviceaccounts/token", "shop") in needed
    assert Right("create", "secrets", "shop") in needed
    app_role = VAULT.replace("    roleName", "    vaultAuthMethod: approle\n    roleName")
    without = manifests(app_role, secretProviderClassName="api")
    assert Right("create", "serviceaccounts/token", "shop") not in controller_rights(
        CONTROLLER, without
    )
    other = replace(CONTROLLER, arguments=("--namespaces=other",))
    assert "secrets" not in {right.resource for right in controller_rights(other, GOOD_OBJECTS)}


def test_workloads_are_found_by_their_command() -> None:
    """Of any image and name; other containers and broken manifests are skipped."""
    driver = workload("a", "csi", ("driver", "-v=2"))
    (found,) = parse_workloads([driver], "DaemonSet", "driver")
    assert ("keyferry", "a", "csi", ("-v=2",)) == (
        found.namespace,
        found.name,
        found.service_account,
        found.arguments,
    )
    assert "system:serviceaccount:keyferry:csi" == found.user
    container = {"command": ["/usr/bin/keyferry"], "args": ["driver"]}
    pod: dict[str, Any] = {"spec": {"template": {"spec": {"containers": [container]}}}}
    (found,) = parse_workloads([pod], "DaemonSet", "driver")
    assert "default" == found.service_account
    broken: list[Any] = [{}, {"spec": 1}, {"spec": {"template": {"spec": {"containers": [1]}}}}]
    assert () == parse_workloads([workload("a", "b", ("x",)), *broken], "DaemonSet", "driver")
    assert CsiDriver(frozenset(), False, False) == parse_csi_driver({"spec": []})


def test_flags() -> None:
    """As Go and click parse them: the last one counts."""
    flags = replace(DRIVER, arguments=("--a=1", "--a", "2", "-b", "--c=false", "x"))
    assert ("2", "z") == (flags.flag("a", ""), flags.flag("x", "z"))
    assert not flags.is_set("c", default=True)
    assert flags.is_set("d", default=True)
