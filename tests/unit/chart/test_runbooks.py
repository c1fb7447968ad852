"""Runbooks: one for each alert, with the queries and the panels that help."""

from __future__ import annotations

import re

import pytest

from tests.unit.chart.test_monitoring import ALERTS, metrics
from tests.unit.test_documented_names import OPERATIONS, series

RUNBOOKS = OPERATIONS / "runbooks"
PARTS = ("Meaning", "Impact", "Diagnosis", "Causes and fixes", "Resolution")
_QUERY = re.compile(r"```promql\n(.*?)```", re.DOTALL)


def queries() -> list[str]:
    """The queries of all runbooks, and of the page about monitoring."""
    pages = [*sorted(RUNBOOKS.glob("*.md")), OPERATIONS / "monitoring.md"]
    return [query.strip() for page in pages for query in _QUERY.findall(page.read_text())]


def test_every_alert_has_a_runbook() -> None:
    """And there is no runbook of an alert that is not there."""
    names = {rule["alert"] for rule in ALERTS}
    assert names == {page.stem for page in RUNBOOKS.glob("*.md")}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_a_runbook_answers_the_questions_of_the_person_on_call(rule: dict[str, str]) -> None:
    """What it means, who is affected, what to look at, what to do, when it ends."""
    text = (RUNBOOKS / f"{rule['alert']}.md").read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    assert PARTS == tuple(re.findall(r"^## (.+)$", text, re.MULTILINE))
    diagnosis = text.partition("## Diagnosis\n")[2].partition("\n## ")[0]
    assert "```console\n" in diagnosis
    assert metrics(rule["expr"]) & metrics("".join(_QUERY.findall(diagnosis))) or (
        "up{" in rule["expr"]
    )
    assert re.search(r"\]\(\.\./troubleshooting[\w-]*\.md", text), "no link to troubleshooting"


def test_queries_of_runbooks_use_metrics_that_exist() -> None:
    """Those of Kubernetes may be used, too."""
    assert {name for query in queries() for name in metrics(query)} <= series()
