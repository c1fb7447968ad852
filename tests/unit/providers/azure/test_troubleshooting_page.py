"""docs/operations/troubleshooting-azure.md is generated from the code and up to date."""

from __future__ import annotations

from pathlib import Path

from keyferry.providers.azure.auth.aadsts import EXPLANATIONS
from scripts.troubleshooting_azure import page

PAGE = Path(__file__).parents[4] / "docs" / "operations" / "troubleshooting-azure.md"


def test_page_is_up_to_date() -> None:
    """To update it, run the command in the docstring of scripts/troubleshooting_azure.py."""
    assert page() == PAGE.read_text()


def test_every_entra_code_has_a_row() -> None:
    """No template field is left open."""
    text = PAGE.read_text()
    assert [code for code in EXPLANATIONS if f"| AADSTS{code} |" not in text] == []
    assert "{" not in text
