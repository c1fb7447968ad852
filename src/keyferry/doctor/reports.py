"""Renders reports as text, and as a document for JSON and YAML. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.doctor.checks import DoctorStage, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from keyferry.doctor.checks import Check, Report

_HINT = "hint"
_STATUS_WIDTH = max(map(len, Status))
_STAGE_WIDTH = max(map(len, DoctorStage))
_MAX_SUBJECT_WIDTH = 40
_MAX_ITEMS = 3
"""Items of a list in a text report; JSON has all."""


def report_lines(reports: Sequence[Report], style: Callable[[Status, str], str]) -> Iterable[str]:
    """Return the lines of a text report.

    Args:
        reports: one for each volume or SecretSync.
        style: returns the word of a status, coloured.
    """
    for index, report in enumerate(reports):
        if index:
            yield ""
        yield report.target
        width = min(_MAX_SUBJECT_WIDTH, max(len(each.subject) for each in report.checks))
        for check in report.checks:
            yield from _check_lines(check, style, width)
        yield conclusion(report)


def conclusion(report: Report) -> str:
    """Return the sentence that names the broken stage."""
    broken = report.broken
    if broken is not None:
        others = sum(each.status is Status.FAILED for each in report.checks) - 1
        more = f"; {others} further checks failed" if others > 1 else ""
        more = "; 1 further check failed" if others == 1 else more
        return f"Broken: {broken.stage} of {broken.subject}{more}."
    if report.is_complete:
        return "Everything works."
    unknown = next((each for each in report.checks if each.status is Status.SKIPPED), None)
    return f"Not checked: {unknown.stage} of {unknown.subject}." if unknown else "Not checked."


def document(reports: Iterable[Report]) -> list[dict[str, object]]:
    """Return reports for JSON and YAML."""
    return [
        {
            "target": report.target,
            "ok": report.is_complete,
            "brokenStage": str(report.broken.stage) if report.broken else "",
            "brokenSubject": report.broken.subject if report.broken else "",
            "checks": [_entry(check) for check in report.checks],
        }
        for report in reports
    ]


def _entry(check: Check) -> dict[str, object]:
    entry: dict[str, object] = {
        "stage": str(check.stage),
        "subject": check.subject,
        "status": str(check.status),
    }
    if check.facts:
        entry["facts"] = {_camel(name): value for name, value in check.facts.items()}
    if check.problem:
        entry["problem"] = check.problem
    if check.remedy:
        entry["remedy"] = check.remedy
    return entry


def _shortened(value: str) -> str:
    """Return a list with its first items only."""
    items = value.split(", ")
    more = len(items) - _MAX_ITEMS
    return value if more <= 1 else f"{', '.join(items[:_MAX_ITEMS])} and {more} more"


def _camel(words: str) -> str:
    first, *rest = words.split()
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _check_lines(check: Check, style: Callable[[Status, str], str], width: int) -> Iterable[str]:
    word = style(check.status, check.status.ljust(_STATUS_WIDTH))
    what = f"{word}  {check.stage.ljust(_STAGE_WIDTH)}  {check.subject.ljust(width)}"
    details = [check.problem] if check.problem else []
    details += [f"{name}={_shortened(value)}" for name, value in check.facts.items()]
    yield _printable(f"{what}  {'  '.join(details)}".rstrip(), styled=word)
    if check.remedy:
        yield _printable(f"{'':{_STATUS_WIDTH}}  {_HINT}: {check.remedy}")


def _printable(line: str, *, styled: str = "") -> str:
    """Return a line without control characters, except in its styled beginning.

    The texts of a probe come from another machine.
    """
    rest = line[len(styled) :]
    return styled + "".join(each if each.isprintable() else "?" for each in rest)
