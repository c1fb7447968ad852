"""docs/operations/troubleshooting-vault.md is generated from the code and up to date."""

from __future__ import annotations

from pathlib import Path

from scripts.troubleshooting_vault import page

PAGE = Path(__file__).parents[4] / "docs" / "operations" / "troubleshooting-vault.md"


def test_page_is_up_to_date() -> None:
    """To update the page, run the command in the docstring of scripts/troubleshooting_vault.py."""
    assert page() == PAGE.read_text()
