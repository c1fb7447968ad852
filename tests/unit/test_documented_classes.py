"""Every SecretProviderClass of the documentation and the examples has only known fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyferry.formats.kubernetes_yaml import Value, parse_documents
from keyferry.kubernetes.class_codec import parse_class
from keyferry.providers.registry import unknown_fields

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
_BLOCKS = re.compile(r"```ya?ml\n(.*?)```|<<'?EOF'?\n(.*?)\n\s*EOF", re.DOTALL)


def classes_of(path: Path) -> Iterator[Value]:
    """The manifests of SecretProviderClasses in a file."""
    text = path.read_text()
    blocks = [text] if path.suffix == ".yaml" else ["".join(b) for b in _BLOCKS.findall(text)]
    for block in blocks:
        if "kind: SecretProviderClass\n" in block:
            for document in parse_documents(block.encode(), max_bytes=1 << 20):
                if isinstance(document.value, dict):
                    yield document.value


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLES], ids=lambda path: path.name)
def test_classes_have_only_known_fields(path: Path) -> None:
    """A reader copies them."""
    for manifest in classes_of(path):
        if isinstance(manifest, dict) and manifest["kind"] == "SecretProviderClass":
            spc = parse_class(manifest, default_namespace="default")
            assert [] == [str(field) for field in unknown_fields(spc)]


def test_pages_and_examples_contain_classes() -> None:
    """The search finds them."""
    assert sum(1 for path in [*PAGES, *EXAMPLES] for _ in classes_of(path)) >= 15
