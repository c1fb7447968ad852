"""scripts/docs_site.py: links and navigation of the documentation site."""

from __future__ import annotations

import pytest

from scripts.docs_site import expanded, linked_files, rewritten

PAGE = "concepts/rotation.md"


@pytest.mark.parametrize(
    ("source", "link", "result"),
    [
        (PAGE, "[a](secret-sync.md#tls)", "[a](secret-sync.md#tls)"),
        (PAGE, "[a](../reference/flags.md)", "[a](../reference/flags.md)"),
        (PAGE, "[a](../../SECURITY.md)", "[a](../SECURITY.md)"),
        (PAGE, "[a](../../values.yaml)", "[a](../repository/values.yaml)"),
        (PAGE, "[a](../../examples)", "a"),
        (PAGE, "[a](https://example.com/b.md)", "[a](https://example.com/b.md)"),
        (PAGE, "`[a](../../values.yaml)`", "`[a](../../values.yaml)`"),
        ("index.md", "[a](../SECURITY.md)", "[a](SECURITY.md)"),
        ("CHANGELOG.md", "[a](docs/index.md)", "[a](index.md)"),
        ("CHANGELOG.md", "![a](docs/images/x.svg)", "![a](images/x.svg)"),
        ("CHANGELOG.md", "[a](SECURITY.md#scope)", "[a](SECURITY.md#scope)"),
        ("CHANGELOG.md", "[a](values.yaml)", "[a](repository/values.yaml)"),
    ],
)
def test_links_work_on_the_site(source: str, link: str, result: str) -> None:
    """Relative to docs/, or to the root folder for the pages that come from there."""
    assert result == rewritten(link, source, {"values.yaml"}.__contains__)


def test_linked_files_of_the_repository_are_found() -> None:
    """Without pages, and without examples in code."""
    text = "[a](../../deploy/x.yaml) [b](rotation.md) [c](../../SECURITY.md) `[d](../../e.yaml)`"
    assert {"deploy/x.yaml"} == linked_files(text, PAGE)


def test_folder_pattern_expands_to_pages_without_an_entry() -> None:
    """Sorted by name; a page with an entry of its own is not repeated."""
    pages = ["index.md", "adr/0002.md", "adr/0001.md", "adr/README.md", "guides/a.md"]
    nav = ["index.md", {"Guides": ["guides/*"]}, {"Decisions": ["adr/README.md", "adr/*"]}]
    assert [
        "index.md",
        {"Guides": ["guides/a.md"]},
        {"Decisions": ["adr/README.md", "adr/0001.md", "adr/0002.md"]},
    ] == expanded(nav, pages)
