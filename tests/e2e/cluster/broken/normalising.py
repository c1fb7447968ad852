"""Removes what differs from run to run from the texts of the tools. [pure]"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.e2e.cluster.broken.observe import Outcome
from tests.e2e.cluster.broken.page import Said
from tests.e2e.cluster.broken.setup import BrokenSetup

_VOLATILE = (
    (re.compile(r"\b(10\.9[678])\.\d+\.1\b"), r"\1.0.1"),
    (re.compile(r"(?<=10\.97\.0\.1:)\d+"), "8200"),
    (re.compile(r"\b22222222-0000-4000-8000-\d{12}\b"), "22222222-0000-4000-8000-000000000002"),
    (re.compile(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{32}\b"), "0123456789abcdef"),
    (re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z| UTC|\+00:00)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d UTC"), "TIME"),
    (re.compile(r"\(\d+ tries\)"), "(2 tries)"),
    (re.compile(r"\bweb-[0-9a-z]+-(?=\")"), "web-5d4f8c7b9-"),
    (re.compile(r"(?<=[.!?]) See https://\S+#[a-z-]+$"), ""),  # each event has such a link
)


def said(row: BrokenSetup, outcome: Outcome, folders: Mapping[str, str]) -> Said:
    """Return what an outcome says, in terms of the namespace `shop` and the vault `contoso`.

    Args:
        row: the set-up.
        outcome: what the tools printed.
        folders: what replaces folders of this machine.
    """

    def plain(text: str) -> str:
        for folder in sorted(folders, key=len, reverse=True):
            text = text.replace(folder, folders[folder])
        text = text.replace(row.vault, "contoso")
        text = re.sub(rf"(?<![\w.-]){re.escape(row.name)}(?![\w-])", "shop", text)
        for pattern, replacement in _VOLATILE:
            text = pattern.sub(replacement, text)
        return text

    problem = f"{outcome.problem}. {outcome.remedy}" if outcome.remedy else outcome.problem
    return Said(
        tuple((reason, plain(message)) for reason, message in _events(row, outcome)),
        tuple(
            (rule, plain(f"{text}. {hint}".removesuffix(". "))) for rule, text, hint in outcome.lint
        ),
        outcome.stage,
        plain(problem),
        plain(outcome.status),
        tuple(outcome.alerts),
    )


def _events(row: BrokenSetup, outcome: Outcome) -> list[tuple[str, str]]:
    """Return the events that describe a set-up, those of the driver before those of kubelet."""
    known = dict(outcome.events)
    return [(reason, known[reason]) for reason in row.reasons if reason in known]
