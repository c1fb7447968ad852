"""Formats of `keyferry lint`."""

from __future__ import annotations

import json

from keyferry.lint.finding import RULES, Finding, Place, finding
from keyferry.lint.reports import ReportFormat, write_report

FINDINGS = [
    finding("class", Place("a,b.yaml", 3), "SecretProviderClass x/y", "100% wrong", "Fix it."),
    finding("unknown-field", Place("c.yaml", 7), "", "did you mean a?"),
]


def test_text_has_place_rule_and_hint() -> None:
    """One line, as compilers write it, and the hint below."""
    assert (
        "a,b.yaml:3: error: SecretProviderClass x/y: 100% wrong [class]\n  hint: Fix it.\n"
        "c.yaml:7: warning: did you mean a? [unknown-field]"
    ) == write_report(FINDINGS, ReportFormat.TEXT)


def test_json_has_all_fields() -> None:
    """Also empty ones; no finding is an empty list."""
    assert {
        "rule": "unknown-field",
        "severity": "warning",
        "file": "c.yaml",
        "line": 7,
        "object": "",
        "problem": "did you mean a?",
        "remedy": "",
    } == json.loads(write_report(FINDINGS, ReportFormat.JSON))[1]
    assert [] == json.loads(write_report([], ReportFormat.JSON))


def test_sarif_names_rules_and_places() -> None:
    """Every rule is described, also without a finding."""
    report = json.loads(write_report(FINDINGS, ReportFormat.SARIF))
    (run,) = report["runs"]
    assert "2.1.0" == report["version"]
    assert list(RULES) == [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    first = run["results"][0]
    assert ("class", "error") == (first["ruleId"], first["level"])
    assert "SecretProviderClass x/y: 100% wrong. Fix it." == first["message"]["text"]
    location = first["locations"][0]["physicalLocation"]
    assert "a,b.yaml" == location["artifactLocation"]["uri"]
    assert {"startLine": 3} == location["region"]
    for result in run["results"]:
        rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
        assert result["ruleId"] == rule["id"]


def test_annotations_are_escaped() -> None:
    """Commas, colons and percent signs have a meaning there."""
    assert [
        (
            "::error file=a%2Cb.yaml,line=3,title=keyferry lint%3A class"
            "::SecretProviderClass x/y: 100%25 wrong. Fix it."
        ),
        "::warning file=c.yaml,line=7,title=keyferry lint%3A unknown-field::did you mean a?",
    ] == write_report(FINDINGS, ReportFormat.GITHUB).splitlines()


def test_no_findings_are_no_text() -> None:
    """Neither for people nor for GitHub."""
    nothing: list[Finding] = []
    assert "" == write_report(nothing, ReportFormat.TEXT)
    assert "" == write_report(nothing, ReportFormat.GITHUB)
