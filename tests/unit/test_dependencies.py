"""The dependencies: every import is declared, and private parts of libraries are known."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from asyncio import sslproto
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import lightkube
import pytest

from keyferry.kubernetes.api.resources import SecretResource
from scripts.lowest import PROJECTS, lowest_requirements

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
OWN_PACKAGES = {"keyferry", "keyferry_devvault"}

DISTRIBUTIONS = {
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "prometheus_client": "prometheus-client",
    "re2": "google-re2",
    "yaml": "pyyaml",
}
"""Imported packages whose distribution has another name."""

FOREIGN_PRIVATE_PARTS = {
    "keyferry/kubernetes/api/client.py": {"_client"},
    "keyferry/kubernetes/api/resources.py": {"_api_info"},
    "keyferry_devvault/client.py": {"_wrap_create_connection"},
}
"""Attributes of other objects that begin with an underscore: docs/adr/0013."""


def _declared() -> set[str]:
    projects = [tomllib.loads(path.read_text())["project"] for path in PROJECTS]
    requirements = [text for project in projects for text in project["dependencies"]]
    return {re.split(r"[^A-Za-z0-9._-]", text)[0].lower() for text in requirements}


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield what is imported at run time; imports for types alone need no package."""
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for child in block.body
        for node in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _distribution(module: str) -> str:
    known = (name for name in DISTRIBUTIONS if module == name or module.startswith(f"{name}."))
    package = module.partition(".")[0]
    return DISTRIBUTIONS.get(next(known, ""), package).lower()


def test_every_import_is_declared() -> None:
    declared = _declared()
    undeclared = {
        f"{path.relative_to(SOURCE)}: {module}"
        for path in SOURCE.rglob("*.py")
        for module in _imported(ast.parse(path.read_text()))
        if module.partition(".")[0] not in sys.stdlib_module_names | OWN_PACKAGES
        and _distribution(module) not in declared
    }
    assert set() == undeclared


def test_private_parts_are_used_only_where_listed() -> None:
    used: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        if path.stem.endswith("_pb2"):
            continue
        tree = ast.parse(path.read_text())
        own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)} | {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if node.value.id in {"self", "cls"}
        }
        foreign = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)
            if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
            if node.attr not in own or ast.unparse(node.value).endswith("._client")
        } - {"_asdict", "_replace", "_fields", "_exit"}  # public despite their names
        if foreign:
            used[str(path.relative_to(SOURCE))] = foreign
    assert FOREIGN_PRIVATE_PARTS == used


def test_the_private_parts_exist() -> None:
    assert callable(aiohttp.TCPConnector._resolve_host)
    assert callable(aiohttp.TCPConnector._wrap_create_connection)
    assert isinstance(sslproto.SSLProtocol.max_size, int)
    assert "secrets" == SecretResource._api_info.plural
    assert "_client" in lightkube.AsyncClient.__init__.__code__.co_names


def test_every_dependency_has_a_lower_bound() -> None:
    assert {text.partition("==")[0].lower() for text in lowest_requirements()} <= _declared()


@pytest.mark.parametrize("requirement", lowest_requirements())
def test_the_lowest_lock_holds_the_lower_bounds(requirement: str) -> None:
    name, _, bound = requirement.lower().partition("==")
    lock = (ROOT / "requirements/lowest.lock").read_text()
    locked = re.search(rf"^{re.escape(name)}(\[\S*\])?==(\S+)", lock, re.MULTILINE)
    assert locked is not None
    assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", locked[2])
