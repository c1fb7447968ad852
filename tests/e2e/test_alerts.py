"""Alerts and dashboard of the chart with Prometheus' own promtool, and as Helm renders them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.chart.test_monitoring import ALERTS, expressions, runbook_url
from tests.unit.chart.test_runbooks import queries
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


def test_alerts_fire_when_they_should(promtool: str, tmp_path: Path) -> None:
    """Each alert with its texts, and none on a healthy node."""
    text = CASES.read_text().replace("ALERTS_FOLDER", str(CHART / "alerts"))
    cases = yaml.load(text, yaml.BaseLoader)  # only texts: 0x30 is no number
    fired = set()
    for case in (each for test in cases["tests"] for each in test.get("alert_rule_test", ())):
        for alert in case["exp_alerts"]:
            fired.add(case["alertname"])
            texts, name = alert["exp_annotations"], case["alertname"]
            alert["exp_annotations"] = {**texts, "runbook_url": runbook_url("main", name)}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))
    succeeds(promtool, "test", "rules", tmp_path / "cases.yaml")
    assert fired == {rule["alert"] for rule in ALERTS}


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
    job = "keyferry" if settings == SYNC else "driver"
    assert f'avg_over_time(up{{job="{job}"}}[10m]) < 0.5' == down["expr"]


def test_alerts_of_the_secret_sync_controller_are_installed_with_it() -> None:
    """In a group of their own; the threshold is three intervals, and the driver is not needed."""
    added = "prometheusRule.extraRules[0]"
    both = rendered(*SYNC, f"{added}.record=a:b", f"{added}.expr=vector(1)")
    names = ["keyferry", "keyferry-common", "keyferry-sync"]
    assert names == [group["name"] for group in both]
    assert names[:2] == [group["name"] for group in rendered()]
    assert "a:b" == both[0]["rules"][-1].get("record")
    interval = "secretSync.rotationPollInterval"
    for value, seconds in (("1h", 10800), ("10m", 1800)):
        common, group = rendered(*SYNC, "driver.enabled=false", f"{interval}={value}")
        assert "KeyferryVaultUnavailable" in {each["alert"] for each in common["rules"]}
        (stale,) = (each for each in group["rules"] if each["alert"] == "KeyferrySecretSyncStale")
        assert f"max by (job) (keyferry_secretsync_age_seconds) > {seconds}" == stale["expr"]
    _, group = rendered(*SYNC, "driver.enabled=false", f"{interval}=0")
    assert "KeyferrySecretSyncStale" not in {each["alert"] for each in group["rules"]}


def runbooks(*settings: str) -> dict[str, str | None]:
    """The runbook of each alert that Helm renders."""
    return {
        rule["alert"]: rule["annotations"].get("runbook_url")
        for group in rendered(*SYNC, *settings)
        for rule in group["rules"]
    }


def test_every_alert_names_its_runbook() -> None:
    """In the documentation of the version of the chart, elsewhere, or not at all."""
    names = [rule["alert"] for rule in ALERTS]
    version = f"v{yaml.safe_load((CHART / 'Chart.yaml').read_text())['version']}"
    assert {name: runbook_url(version, name) for name in names} == runbooks()
    own = "prometheusRule.runbookUrl=https://runbooks.example.com/{alert}"
    assert "https://runbooks.example.com/KeyferryDown" == runbooks(own)["KeyferryDown"]
    for nothing in ("", "null"):
        assert {None} == set(runbooks(f"prometheusRule.runbookUrl={nothing}").values())


def test_rules_can_be_changed() -> None:
    """Labels, alerts that are left out, and rules that are added."""
    groups = rendered(
        "prometheusRule.alertLabels.team=platform",
        "prometheusRule.alertLabels.severity=page",
        "prometheusRule.disabledAlerts={KeyferryDown}",
        "prometheusRule.extraRules[0].record=a:b",
        "prometheusRule.extraRules[0].expr=vector(1)",
    )
    *alerts, added = groups[0]["rules"]
    assert {"record": "a:b", "expr": "vector(1)"} == added
    alerts += groups[1]["rules"]
    not_sync = {rule["alert"] for rule in ALERTS if "keyferry_secretsync" not in rule["expr"]}
    assert {"KeyferryDown"} == not_sync - {rule["alert"] for rule in alerts}
    assert all({"team": "platform", "severity": "page"} == rule["labels"] for rule in alerts)


def check_expressions(promtool: str, expressions: list[str], folder: Path) -> None:
    """Let promtool parse expressions, as recording rules."""
    rules = [{"record": f"expression:{n}", "expr": each} for n, each in enumerate(expressions)]
    groups = {"groups": [{"name": "expressions", "rules": rules}]}
    (folder / "rules.yaml").write_text(yaml.safe_dump(groups))
    said = succeeds(promtool, "check", "rules", "--lint=none", folder / "rules.yaml")
    assert f"{len(expressions)} rules found" in said


def test_every_expression_of_the_dashboard_is_valid(promtool: str, tmp_path: Path) -> None:
    """With Grafana's variables replaced."""
    plain = [
        each.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$node", ".*")
        for each in expressions()
        if not each.startswith("label_values")
    ]
    assert not [each for each in plain if "$" in each]
    check_expressions(promtool, plain, tmp_path)


def test_every_query_of_the_runbooks_is_valid(promtool: str, tmp_path: Path) -> None:
    """And those of the page about monitoring."""
    found = queries()
    assert len(found) >= len(ALERTS)
    check_expressions(promtool, found, tmp_path)
