"""ARCHITECTURE.md matches the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "keyferry"
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
FLOW = re.compile(r"^## (Flow \d: .*?)\n(.*?)(?=^## )", re.MULTILINE | re.DOTALL)
MODULE = re.compile(r"^ *([\w/]+\.py)\b.*?(\[pure\])?$", re.MULTILINE)
FLOWS = dict(FLOW.findall(PAGE))


def missing_modules(flow: str) -> list[str]:
    """Return the modules of a flow's listing that do not exist below `src/keyferry`."""
    listing = "".join(re.findall(r"^```\n(.*?)^```", flow, re.MULTILINE | re.DOTALL))
    return [path for path, _ in MODULE.findall(listing) if not (SOURCE / path).is_file()]


def wrong_purity(flow: str) -> list[str]:
    """Return the modules that a flow marks [pure] although they are not, or the reverse."""
    return [
        path
        for path, mark in MODULE.findall(flow)
        if (SOURCE / path).is_file()
        and bool(mark) != ("[pure]" in (SOURCE / path).read_text().split('"""')[1].split("\n\n")[0])
    ]


@pytest.mark.parametrize("flow", FLOWS)
def test_every_module_of_a_flow_exists(flow: str) -> None:
    """A reader can follow the page from top to bottom."""
    assert len(MODULE.findall(FLOWS[flow])) >= 7
    assert [] == missing_modules(FLOWS[flow])
    assert [] == wrong_purity(FLOWS[flow])


def test_there_are_six_flows_of_one_page_each() -> None:
    """Publish, fetch, reconcile, status page, diagnosis; a page has 60 lines."""
    assert 6 == len(FLOWS)
    assert [] == [name for name, text in FLOWS.items() if len(text.splitlines()) > 60]


def test_a_missing_module_is_found() -> None:
    """The check can fail."""
    text = "\n```\ndriver/csi.py    messages\n  driver/missing.py   nothing\n```\n"
    assert ["driver/missing.py"] == missing_modules(text)
    assert ["driver/csi.py"] == wrong_purity("driver/csi.py  messages  [pure]")
