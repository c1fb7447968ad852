"""Alerts and dashboard of the chart: they use metrics that the driver has, and are documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from scripts.image.build import labels
from tests.unit.chart.values import CHART, schema
from tests.unit.test_documented_names import MONITORING, OPERATIONS, series


def rules(name: str) -> list[dict[str, Any]]:
    """The alerts of a file of the chart."""
    groups = yaml.safe_load((CHART / "alerts" / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERT_FILES = ("keyferry.yaml", "keyferry-common.yaml", "keyferry-sync.yaml")
ALERTS = [rule for name in ALERT_FILES for rule in rules(name)]
DASHBOARD: dict[str, Any] = json.loads((CHART / "dashboards" / "keyferry.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
"""Of prometheus_client, on Linux."""


def runbook_url(tree: str, alert: str) -> str:
    """The address of the runbook of an alert, in a branch or at a tag."""
    source = labels()["org.opencontainers.image.source"]
    return f"{source}/blob/{tree}/docs/operations/runbooks/{alert}.md"


def metrics(expression: str) -> set[str]:
    """The metrics in an expression, by the names of the series that a scrape shows."""
    found = re.findall(r"\b(?:keyferry|node|rotation|sync|k8s|process)_\w+", expression)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def expressions() -> Iterator[str]:
    """All expressions of the dashboard, with those of its variables."""
    yield from (each["expr"] for panel in PANELS for each in panel.get("targets", ()))
    for variable in DASHBOARD["templating"]["list"]:
        if "definition" in variable:
            yield variable["definition"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_uses_metrics_of_the_driver(rule: dict[str, Any]) -> None:
    """And says what happened, what it means, and how urgent it is."""
    assert metrics(rule["expr"]) <= series()
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    assert runbook_url("main", rule["alert"]) == rule["annotations"]["runbook_url"]
    assert rule["annotations"]["description"].endswith(".")


def test_every_alert_is_documented() -> None:
    """In one table, with its expression and severity."""
    page = (OPERATIONS / "monitoring.md").read_text()
    table = page.partition("## Alerts\n")[2].partition("\n## ")[0]
    row = r"^\| \[`(Keyferry\w+)`\]\(runbooks/\1.md\) \| (\w+) \| `([^`]+)`"
    rows = re.findall(row, table, re.MULTILINE)
    assert rows == [
        (
            rule["alert"],
            rule["labels"]["severity"],
            rule["expr"].replace("> 10800", "> SECONDS"),
        )
        for rule in ALERTS
    ]


def test_only_alerts_that_exist_can_be_disabled() -> None:
    """By the schema of the values."""
    values = schema()["properties"]["prometheusRule"]["properties"]
    assert values["disabledAlerts"]["items"]["enum"] == [rule["alert"] for rule in ALERTS]


def test_alerts_name_events_that_the_driver_records() -> None:
    """Descriptions send their reader to them."""
    named = {
        word
        for rule in ALERTS
        for phrase in re.findall(r"event (\w+)", rule["annotations"]["description"])
        for word in [phrase]
    }
    assert named - {"FailedMount"} <= set(re.findall(r"^\| `(\w+)` \|", MONITORING, re.MULTILINE))


def test_the_dashboard_uses_metrics_of_the_driver() -> None:
    """It shows nearly all of them."""
    used = {name for expression in expressions() for name in metrics(expression)}
    assert used <= series() | PROCESS
    assert set() == series() - used


def test_the_dashboard_is_complete() -> None:
    """Panels have a title, an explanation, a unique id and a place of their own."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        assert panel["title"]
        assert "row" == panel["type"] or panel["description"].endswith(".")
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in own) < 24
        assert not own & cells
        cells |= own


def test_every_expression_of_the_dashboard_can_be_filtered() -> None:
    """By job and node."""
    for expression in expressions():
        if expression.endswith(", job)"):  # the variable itself
            continue
        selectors = re.findall(r"\{[^}]*\}", expression)
        assert all('job=~"$job"' in each for each in selectors)
        assert all(
            'node=~"$node"' in each for each in selectors if "label_values" not in expression
        )
