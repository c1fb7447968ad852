"""The status page in the rendered Helm chart: off by default, and what it needs."""

from __future__ import annotations

import pytest

from keyferry.cli.cluster.page_target import APP_LABEL, describe_controller
from keyferry.cli.daemons.sync_controller import SYNC_CONTROLLER_FLAGS, settings_from
from keyferry.cli.flags.go_flags import parse_flags
from keyferry.status_page.scraping import COMPONENTS
from tests.e2e.cluster.chart import Manifest, one, refused, render
from tests.e2e.cluster.test_chart_sync import NAME, controller, rules_of, values
from tests.unit.chart.values import merged

ENABLED = {"statusPage": {"enabled": True}}


async def test_the_page_is_off_by_default() -> None:
    """Without its permissions; its port has no effect."""
    assert await render(values()) == await render(values(statusPage={"port": 9000}))
    arguments = controller(await render(values()))["args"]
    assert not [each for each in arguments if "status-page" in each]


async def test_the_page_is_served_on_loopback_with_its_permissions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It lists pod statuses of the cluster, and pods of its own namespace; no Secrets."""
    monkeypatch.setenv("POD_NAMESPACE", "keyferry")  # by the downward API
    without, manifests = await render(values()), await render(values(**ENABLED))
    flags = parse_flags(controller(manifests)["args"][1:], SYNC_CONTROLLER_FLAGS)
    assert ("127.0.0.1", 8090) == settings_from(flags).status_page
    for kind, added in (
        ("ClusterRole", ("", "secretproviderclasspodstatuses", {"list"})),
        ("Role", ("kube-system", "pods", {"list"})),
    ):
        before = list(rules_of(without, kind))
        assert [added] == [each for each in rules_of(manifests, kind) if each not in before]


async def test_another_port_can_be_set() -> None:
    """`helm upgrade --reuse-values` does not know the default."""
    manifests = await render(values(statusPage={"enabled": True, "port": 9999}))
    assert "--status-page-addr=127.0.0.1:9999" in controller(manifests)["args"]
    old = await render(values(statusPage={"enabled": True, "port": None}))
    assert "--status-page-addr=127.0.0.1:8090" in controller(old)["args"]


async def test_used_port_is_refused() -> None:
    """The controller would not start."""
    for port in (8081, 8085):
        said = await refused(values(statusPage={"enabled": True, "port": port}))
        assert f"secretSync.statusPage.port: the controller already uses the port {port}" in said


async def test_network_policies_permit_the_scrapes() -> None:
    """Of the drivers and of the other replicas."""
    policy: Manifest = {
        "driver": {"enabled": True},
        "networkPolicy": {
            "enabled": True,
            "metricsFrom": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
            "egress": [{"ports": [{"port": 443}]}],
        },
    }
    without = await render(merged(values(), policy))
    manifests = await render(merged(values(**ENABLED), policy))
    for name in ("keyferry", NAME):
        spec = one(manifests, "NetworkPolicy", name)["spec"]
        *peers, added = spec["ingress"][0]["from"]
        assert one(without, "NetworkPolicy", name)["spec"]["ingress"][0]["from"] == peers
        assert APP_LABEL == added["podSelector"]["matchLabels"]["app"]
    rules = one(manifests, "NetworkPolicy", NAME)["spec"]["egress"]
    (rule,) = [
        each for each in rules if each not in one(without, "NetworkPolicy", NAME)["spec"]["egress"]
    ]
    (expression,) = rule["to"][0]["podSelector"]["matchExpressions"]
    assert {*COMPONENTS} == {*expression["values"]}
    assert (
        one(without, "NetworkPolicy", "keyferry")["spec"]["egress"]
        == (one(manifests, "NetworkPolicy", "keyferry")["spec"]["egress"])
    )


async def test_ui_finds_the_page_in_the_pods_of_the_chart() -> None:
    """By the label and the flag of the Deployment."""
    for found, has_page in (
        (await render(values(**ENABLED)), True),
        (await render(values()), False),
    ):
        pod = one(found, "Deployment")["spec"]["template"]
        assert APP_LABEL == pod["metadata"]["labels"]["app"]
        ready: Manifest = {"conditions": [{"type": "Ready", "status": "True"}]}
        named = {**pod["metadata"], "namespace": "keyferry", "name": "sync-0"}
        described = describe_controller([pod | {"metadata": named, "status": ready}])
        assert has_page == described.has_page
        assert (("keyferry/sync-0",), has_page) == (described.pods, bool(described.targets))
