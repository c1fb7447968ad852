"""Alerts and dashboard of the chart with Prometheus' own promtool, and as Helm renders them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.chart.test_monitoring import ALERTS, DRIVER_ALERTS, expressions
from tests.unit.chart.values import CHART

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).with_name("alerts_test.yaml")


def tool(name: str) -> str:
    """The path of a program of scripts/tools.sh, which gets it once."""
    run = subprocess.run(
        [ROOT / "scripts" / "tools.sh", name], check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


@pytest.fixture(scope="module")
def promtool() -> str:
    return tool("promtool")


def succeeds(*command: str | Path) -> str:
    """Return the output of a command."""
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert 0 == run.returncode, run.stdout + run.stderr
    return run.stdout


def rendered(*settings: str) -> list[dict[str, Any]]:
    """The groups of rules in the PrometheusRule that Helm renders."""
    manifest = succeeds(
        tool("helm"), "template", "keyferry", CHART, "--kube-version=1.34.0",
        "--show-only=templates/prometheusrule.yaml", "--set=prometheusRule.enabled=true",
        *(f"--set={each}" for each in settings),
    )  # fmt: skip
    groups = yaml.safe_load(manifest)["spec"]["groups"]
    assert isinstance(groups, list)
    return groups


def stale_rule(*settings: str) -> list[str]:
    """The conditions of the alert whose threshold depends on the rotation interval."""
    rules = [rule for group in rendered(*settings) for rule in group["rules"]]
    return [rule["expr"] for rule in rules if "KeyferryContentStale" == rule.get("alert")]


def test_alerts_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    """Each alert with its texts, and none on a healthy node."""
    cases = CASES.read_text().replace("ALERTS_FOLDER", str(CHART / "alerts"))
    (tmp_path / "cases.yaml").write_text(cases)
    succeeds(promtool, "test", "rules", tmp_path / "cases.yaml")
    covered = set(re.findall(r"alertname: (\w+)", cases))
    assert covered == {rule["alert"] for rule in ALERTS}


SYNC = ("secretSync.enabled=true", "secretSync.clusterWide=true")


@pytest.mark.parametrize(
    "settings", [SYNC, ("enableSecretRotation=true", "nameOverride=driver")], ids=["sync", "driver"]
)
def test_the_rendered_rules_are_valid(
    promtool: str, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    """Prometheus reads them."""
    groups = rendered(*settings)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    succeeds(promtool, "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")
    (down,) = (rule for rule in groups[0]["rules"] if "KeyferryDown" == rule["alert"])
    assert f'up{{job="{"keyferry" if settings == SYNC else "driver"}"}} == 0' == down["expr"]
    assert down["annotations"]["runbook_url"].endswith("/docs/operations/monitoring.md#alerts")


def test_alerts_of_the_secret_sync_controller_are_installed_with_it() -> None:
    """In a group of their own; the threshold is three intervals, and the driver is not needed."""
    added = "prometheusRule.extraRules[0]"
    both = rendered(*SYNC, f"{added}.record=a:b", f"{added}.expr=vector(1)")
    assert ["keyferry", "keyferry-sync"] == [group["name"] for group in both]
    assert "a:b" == both[0]["rules"][-1].get("record")
    interval = "secretSync.rotationPollInterval"
    for value, seconds in (("1h", 10800), ("10m", 1800)):
        (group,) = rendered(*SYNC, "driver.enabled=false", f"{interval}={value}")
        (stale,) = (each for each in group["rules"] if each["alert"] == "KeyferrySecretSyncStale")
        assert f"max by (job) (keyferry_secretsync_age_seconds) > {seconds}" == stale["expr"]
        assert stale["annotations"]["runbook_url"].endswith("monitoring.md#alerts")
    (group,) = rendered(*SYNC, "driver.enabled=false", f"{interval}=0")
    assert "KeyferrySecretSyncStale" not in {each["alert"] for each in group["rules"]}


def test_stale_content_depends_on_the_rotation_interval() -> None:
    """Two intervals and one minute; without rotation, there is no such alert."""
    metric = "keyferry_oldest_content_age_seconds"
    assert [] == stale_rule()
    assert [f"{metric} > 300"] == stale_rule("enableSecretRotation=true")
    hours = ("enableSecretRotation=true", "rotationPollInterval=1h30m")
    assert [f"{metric} > 10860"] == stale_rule(*hours)


def test_rules_can_be_changed() -> None:
    """Labels, alerts that are left out, and rules that are added."""
    (group,) = rendered(
        "prometheusRule.alertLabels.team=platform",
        "prometheusRule.alertLabels.severity=page",
        "prometheusRule.disabledAlerts={KeyferryDown}",
        "prometheusRule.extraRules[0].record=a:b",
        "prometheusRule.extraRules[0].expr=vector(1)",
    )
    *alerts, added = group["rules"]
    assert {"record": "a:b", "expr": "vector(1)"} == added
    assert {"KeyferryDown", "KeyferryContentStale"} == {rule["alert"] for rule in DRIVER_ALERTS} - {
        rule["alert"] for rule in alerts
    }
    assert all({"team": "platform", "severity": "page"} == rule["labels"] for rule in alerts)


def test_every_expression_of_the_dashboard_is_valid(promtool: str, tmp_path: Path) -> None:
    """With Grafana's variables replaced."""
    queries = [each for each in expressions() if not each.startswith("label_values")]
    plain = [
        each.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$node", ".*")
        for each in queries
    ]
    assert not [each for each in plain if "$" in each]
    rules = [{"record": f"panel:{n}", "expr": each} for n, each in enumerate(plain)]
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]})
    )
    said = succeeds(promtool, "check", "rules", "--lint=none", tmp_path / "rules.yaml")
    assert f"{len(queries)} rules found" in said
