"""Writes findings as text, JSON, SARIF, or annotations of GitHub.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from keyferry import __version__
from keyferry.lint.finding import RULES, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyferry.lint.finding import Finding, Place

PAGE = "docs/reference/lint.md"
"""The page that explains the rules."""


class ReportFormat(StrEnum):
    """The values of `--format`."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def write_report(findings: Sequence[Finding], report: ReportFormat) -> str:
    """Return the findings in a format, without a final newline; "" if there is nothing to say."""
    match report:
        case ReportFormat.TEXT:
            return "\n".join(map(_text, findings))
        case ReportFormat.JSON:
            return json.dumps([_plain(found) for found in findings], indent=2)
        case ReportFormat.SARIF:
            return json.dumps(_sarif(findings), indent=2)
        case ReportFormat.GITHUB:
            return "\n".join(map(_annotation, findings))


def _text(found: Finding) -> str:
    about = f"{found.subject}: " if found.subject else ""
    lines = f"{found.place}: {found.rule.severity}: {about}{found.problem} [{found.rule.id}]"
    return f"{lines}\n  hint: {found.remedy}" if found.remedy else lines


def _plain(found: Finding) -> dict[str, object]:
    return {
        "rule": found.rule.id,
        "severity": str(found.rule.severity),
        "file": found.place.file,
        "line": found.place.line or None,
        "object": found.subject,
        "problem": found.problem,
        "remedy": found.remedy,
    }


def _sentence(found: Finding) -> str:
    about = f"{found.subject}: " if found.subject else ""
    end = "" if found.problem.endswith("?") else "."
    return f"{about}{found.problem}{end} {found.remedy}".rstrip()


def _sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.summary},
            "defaultConfiguration": {"level": str(rule.severity)},
        }
        for rule in RULES.values()
    ]
    results = [
        {
            "ruleId": found.rule.id,
            "ruleIndex": list(RULES).index(found.rule.id),
            "level": str(found.rule.severity),
            "message": {"text": _sentence(found)},
            "locations": [_location(found.place)],
        }
        for found in findings
    ]
    driver = {"name": "keyferry lint", "version": __version__, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _location(place: Place) -> dict[str, Any]:
    if not place.line:
        return {"logicalLocations": [{"fullyQualifiedName": place.file, "kind": "resource"}]}
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": place.file},
            "region": {"startLine": place.line},
        }
    }


def _annotation(found: Finding) -> str:
    level = "error" if found.rule.severity is Severity.ERROR else "warning"
    place = found.place
    properties = {
        **({"file": place.file, "line": str(place.line)} if place.line else {}),
        "title": f"keyferry lint: {found.rule.id}",
    }
    listed = ",".join(f"{name}={_escaped_property(text)}" for name, text in properties.items())
    return f"::{level} {listed}::{_escaped(_sentence(found))}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
