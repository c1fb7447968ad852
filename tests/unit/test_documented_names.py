"""docs/ names every flag, metric, event and option that the code has, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

from keyferry.driver.status import events
from keyferry.kubernetes.objects import ApplyOutcome
from keyferry.kubernetes.syncs.groups import SYNC_KIND
from keyferry.sync_controller.rules import events as sync_events
from scripts.flags_page import page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPERATIONS = DOCS / "operations"
PAGES = (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))
MONITORING = (DOCS / "reference" / "metrics-and-events.md").read_text()
_SERIES = re.compile(
    r"\b(Counter|CounterMetricFamily|Gauge|Histogram|GaugeMetricFamily|_by_vault)\(\s*(?:limiters,\s*)?\"(\w+)\""
)


def series() -> set[str]:
    """The names of all metrics, as a scrape shows them."""
    found = set()
    for module in (ROOT / "src" / "keyferry").rglob("*.py"):
        for kind, name in _SERIES.findall(module.read_text()):
            found.add(f"{name}_total" if kind.startswith("Counter") else name)
    return found


def test_page_of_flags_is_in_sync_with_the_code() -> None:
    """Else: .venv/bin/python -m scripts.flags_page > docs/reference/flags.md"""
    assert page() == (DOCS / "reference" / "flags.md").read_text()


def test_every_metric_is_on_the_page() -> None:
    """And the page names none that is not there."""
    named = set(re.findall(r"`((?:keyferry|node|rotation|sync|k8s)_\w+)`", MONITORING))
    assert len(named) > 25
    assert series() == named


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_names_no_metric_that_is_not_there(path: Path) -> None:
    """A metric that is renamed takes its sentences along."""
    named = set(re.findall(r"\bkeyferry_[a-z_]+[a-z]\b(?!\*|_\*)", path.read_text()))
    assert named - series() - {"keyferry_devvault"} == set()  # the emulator is a package


@pytest.mark.parametrize(
    ("heading", "module"), [("Events", events), ("Events of SecretSyncs", sync_events)]
)
def test_every_event_is_on_the_page(heading: str, module: ModuleType) -> None:
    """And the page names none that is not there."""
    part = MONITORING.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    constants = [value for name, value in vars(module).items() if name.isupper()]
    reasons = {value for value in constants if isinstance(value, str)} - {SYNC_KIND}
    assert reasons == set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))


def test_every_outcome_of_a_sync_is_on_the_page() -> None:
    """As a value of the label."""
    heading = "| `outcome` of `keyferry_secretsync_total` "
    rows = MONITORING.partition(heading)[2].partition("\n\n")[0]
    written = {outcome.name.lower() for outcome in ApplyOutcome}
    named = set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE))
    assert written | {"left_out", "failed"} == named


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_is_there(path: Path) -> None:
    """Links within the repository, and paths in code style."""
    text = path.read_text()
    linked = re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", text)
    named = re.findall(
        r"`((?:src|tests|docs|examples|charts|scripts|deploy|bench)/[\w./-]+)`", text
    )
    missing = [link for link in linked if not (path.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert [] == missing


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_heading_that_a_link_names_is_there(path: Path) -> None:
    """As GitHub makes anchors of headings."""
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)]+)\)", path.read_text()):
        target = path.parent / file if file else path
        heads = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
        assert anchor in anchors, f"{file}#{anchor}"


def said() -> str:
    """All texts of the code, and the pages that are made of its messages."""
    texts = [(OPERATIONS / f"troubleshooting-{name}.md").read_text() for name in ("azure", "vault")]
    for module in (ROOT / "src" / "keyferry").rglob("*.py"):
        texts += [
            node.value
            for node in ast.walk(ast.parse(module.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\n".join(texts)
