"""docs/troubleshooting-vault.md: made from the code, so that no message of it is out of date."""

from __future__ import annotations

from pathlib import Path

from scripts.troubleshooting_vault import page

PAGE = Path(__file__).parents[4] / "docs" / "troubleshooting-vault.md"


def test_the_page_is_in_step_with_the_code() -> None:
    """Else: .venv/bin/python -m scripts.troubleshooting_vault > docs/troubleshooting-vault.md"""
    assert page() == PAGE.read_text()
