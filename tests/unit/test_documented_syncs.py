"""Every SecretSync of the documentation and the examples can be copied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from keyferry.content import SecretFile
from keyferry.formats.kubernetes_yaml import parse_documents
from keyferry.kubernetes.class_codec import parse_class
from keyferry.kubernetes.syncs.codec import parse_sync
from keyferry.kubernetes.syncs.groups import GKE_GROUP, UPSTREAM_GROUP, SyncGroup
from keyferry.kubernetes.syncs.objects import SecretSync
from keyferry.providers.registry import PROVIDERS
from keyferry.secrets.builder import Definition, choose_files

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
GUIDE = ROOT / "docs" / "guides" / "secrets-without-a-pod.md"
EXAMPLES = sorted((ROOT / "examples" / "secret-sync").glob("*.yaml"))
NAMED_FILES = {row.name: row.named_files for row in PROVIDERS}
_BLOCKS = re.compile(r"```ya?ml\n(.*?)```|<<'?END'?\n(.*?)\n\s*END", re.DOTALL)

Manifest = Mapping[str, Any]


def documents(path: Path) -> Iterator[Manifest]:
    """The manifests of a file, or of the blocks of a page."""
    text = path.read_text()
    blocks = [text] if path.suffix == ".yaml" else ["".join(b) for b in _BLOCKS.findall(text)]
    for block in blocks:
        if "kind: SecretSync\n" in block:
            for document in parse_documents(block.encode(), max_bytes=1 << 20):
                if isinstance(document.value, dict):
                    yield document.value


def syncs_of(path: Path) -> Iterator[SecretSync]:
    """The SecretSyncs of a file, as an API server returns them."""
    for manifest in documents(path):
        if manifest["kind"] == "SecretSync":
            metadata = {"namespace": "shop", "uid": "u", "generation": 1, **manifest["metadata"]}
            group = SyncGroup.parse(manifest["apiVersion"])
            yield parse_sync({**manifest, "metadata": metadata}, group)


def kinds_of(path: Path) -> Mapping[str, Manifest]:
    """The manifests of an example by kind; there is one of each."""
    found = list(documents(path))
    by_kind = {manifest["kind"]: manifest for manifest in found}
    assert len(found) == len(by_kind)
    return by_kind


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLES], ids=lambda path: path.name)
def test_syncs_are_valid(path: Path) -> None:
    """All fields and annotations are known, and all values are valid."""
    for sync in syncs_of(path):
        assert sync.invalid is None
        assert sync.options.problems == ()
        assert [] == [str(field) for field in sync.unknown_fields]
        assert sync.ref.group in (UPSTREAM_GROUP, GKE_GROUP)


def test_pages_and_examples_contain_syncs() -> None:
    """The search finds them, in pages and in examples."""
    assert list(syncs_of(GUIDE))
    assert {"azure", "openbao", "vault"} == {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_objects_of_an_example_fit_together(path: Path) -> None:
    """SecretProviderClass, service account, SecretSync, and the pods that read the Secret."""
    kinds = kinds_of(path)
    (sync,) = syncs_of(path)
    spc = parse_class(dict(kinds["SecretProviderClass"]), default_namespace="default")
    assert (spc.name, spc.provider) == (sync.class_name, path.stem)
    assert sync.service_account == kinds["ServiceAccount"]["metadata"]["name"]
    assert {"shop"} == {manifest["metadata"]["namespace"] for manifest in kinds.values()}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"][0]["secretRef"]["name"] == sync.ref.name
    assert pod["volumes"][0]["secret"]["secretName"] == sync.ref.name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_source_of_an_example_is_a_file_of_its_class(path: Path) -> None:
    """By its path, or by the name of its object."""
    kinds = kinds_of(path)
    (sync,) = syncs_of(path)
    spc = parse_class(dict(kinds["SecretProviderClass"]), default_namespace="default")
    named = NAMED_FILES[spc.provider](spc.parameters)
    files = [SecretFile(each.path, 0o644, b"x") for each in named]
    chosen = choose_files(sync.secret_object, files, named, definition=Definition.SECRET_SYNC)
    assert chosen.request is not None
    assert {item.key for item in sync.secret_object.data} == {f.key for f in chosen.request.files}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_has_its_guide(path: Path) -> None:
    """Each refers to the other."""
    assert f"examples/secret-sync/{path.name}" in GUIDE.read_text()
    assert f"docs/guides/{GUIDE.name}" in path.read_text()
