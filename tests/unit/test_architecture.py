"""The rules of the architecture, held by reading the source: layers, purity, size, edges.

Each rule is a function from modules to complaints, so that the last tests can show that it bites.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import keyferry

ROOT = Path(keyferry.__file__).parent
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 65
MAX_TEST_MODULE_LINES = 500
LONG_TEST_MODULES = {
    "integration/test_driver_csi.py": "to be split by kind of call",
    "unit/economy/test_gate.py": "to be split by kind of trouble",
    "unit/economy/test_hub.py": "to be split by what is held",
}
"""Those that are longer all the same, and why."""

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "driver": ("azure", "vault", "cli", "devvault"),
    "azure": ("driver", "vault", "cli", "devvault", "store"),
    "vault": ("driver", "azure", "cli", "devvault", "store"),
    "store": ("driver", "azure", "vault", "cli", "devvault"),
    "certs": ("driver", "azure", "vault", "store", "cli", "devvault"),
    "economy": ("driver", "azure", "vault", "store", "cli", "devvault"),
    # The foundation knows no package, but for the rows of the table of providers.
    "": ("driver", "azure", "vault", "cli", "devvault", "store", "economy"),
}
"""Which packages a package does not import; "" stands for the modules beside the packages."""

EXCEPTIONS = {("providers", "azure"), ("providers", "vault"), ("__main__", "cli")}
"""The table of providers alone knows them; `python -m keyferry` is the command."""

DEVVAULT_MAY_IMPORT = ("errors", "https", "devvault")
"""The development vault is a peer of the engine, so that the one can be tested with the other."""

FOREIGN_HOMES: dict[str, tuple[str, ...]] = {
    # The demo plays kubelet, which is a gRPC client.
    "grpc": (
        "driver.csi",
        "driver.external_provider",
        "driver.readiness",
        "driver.registration",
        "provider_server",
        "grpc_edge",
        "cli.demo_stage",
    ),
    "aiohttp": (
        "https",
        "connector",
        "connection_errors",
        "web",
        "store.kube_transport",
        "azure.token_errors",
        "azure.token_http",
        "vault.http",
        "devvault",
    ),
    "lightkube": (
        "store.kube_client",
        "store.kube_config",
        "store.kube_errors",
        "store.kube_kinds",
    ),
    "httpx2": ("store.kube_errors", "store.kube_transport"),
    "azure": (),
    "click": ("cli",),
    "rich": ("cli",),
    "prometheus_client": ("metrics", "economy.metrics", "secret_metrics", "volume_metrics"),
    "yaml": ("strict_yaml", "store.yaml_documents"),
    "cryptography": ("certs", "devvault"),
    "ctypes": ("driver.mounts",),
}
"""Where a library may be imported: in these modules, and in those below these packages."""

IMPURE_IMPORTS = {
    "aiohttp", "asyncio", "ctypes", "fcntl", "grpc", "logging", "os", "pathlib", "random",
    "secrets", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib.request", "keyferry.logs",
}  # fmt: skip

PURE_ALLOWED: dict[str, set[str]] = {
    # They match on the classes of foreign exceptions, and call nothing of these libraries.
    "connection_errors": {"aiohttp", "socket", "ssl"},
    "azure.token_errors": {"aiohttp"},
}

PURE_REEXPORTS = {"keyferry.store", "keyferry.proto"}
"""Packages whose `__init__` holds nothing but names of pure modules, or generated stubs."""

IMPURE_CALLS = {
    "open", "print", "input", "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
    "uuid4", "uuid.uuid4", "uuid1", "uuid.uuid1",
}  # fmt: skip

EXITS = {"grpc_edge": "the second signal ends the process at once"}
"""Where a process may end outside the command line, and why."""


@dataclass(frozen=True)
class Module:
    """One module of the source.

    Attributes:
        name: dotted, below `keyferry`; "" for the package itself.
        text: its source.
    """

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree, the same one each time."""
        return _parse(self.text)

    @property
    def package(self) -> str:
        """The package it lies in; "" for the modules beside the packages."""
        return self.name.partition(".")[0] if (ROOT / self.name.partition(".")[0]).is_dir() else ""

    @property
    def is_pure(self) -> bool:
        """Whether the first paragraph of its docstring says so."""
        return "[pure]" in (ast.get_docstring(self.tree) or "").split("\n\n")[0]

    def imports(self) -> set[str]:
        """What it imports at run time, on first use included: modules, and names in them."""
        return set(_imports(self.tree))

    def is_in(self, homes: tuple[str, ...]) -> bool:
        """Whether it is one of `homes`, or lies below one."""
        return any(self.name == home or self.name.startswith(f"{home}.") for home in homes)


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def _imports(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name("TYPE_CHECKING"), orelse=orelse):
                for other in orelse:
                    yield from _imports(other)
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                yield from _imports(child)


def _name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def source() -> tuple[Module, ...]:
    """Every module but the generated stubs."""
    paths = sorted(path for path in ROOT.rglob("*.py") if not path.stem.endswith("_pb2"))
    return tuple(Module(_name_of(path), path.read_text()) for path in paths)


# --- the rules ------------------------------------------------------------------------------------


def layer_complaints(module: Module) -> Iterator[str]:
    """Imports from a package that this one must not know."""
    for imported in module.imports():
        target = imported.removeprefix("keyferry.").partition(".")[0]
        if not imported.startswith("keyferry.") or target == module.package:
            continue
        if (module.name, target) in EXCEPTIONS:
            continue
        if target in FORBIDDEN.get(module.package, ()):
            yield f"{module.name} imports {imported}"
        if target == "cli" or (module.package == "devvault" and target not in DEVVAULT_MAY_IMPORT):
            yield f"{module.name} imports {imported}"


def foreign_complaints(module: Module) -> Iterator[str]:
    """Libraries outside their homes."""
    for imported in module.imports():
        library = imported.partition(".")[0]
        homes = FOREIGN_HOMES.get(library)
        if homes is not None and not module.is_in(homes):
            yield f"{module.name} imports {imported}"


def purity_complaints(module: Module) -> Iterator[str]:
    """I/O, a clock, a log or a coroutine in a module that calls itself pure."""
    if not module.is_pure:
        return
    pure = {f"keyferry.{other.name}" for other in source() if other.is_pure} | PURE_REEXPORTS
    modules = {f"keyferry.{other.name}" for other in source()}
    for imported in module.imports():
        if imported in IMPURE_IMPORTS - PURE_ALLOWED.get(module.name, set()):
            yield f"{module.name} is pure and imports {imported}"
        if imported in modules - pure:
            yield f"{module.name} is pure and imports {imported}, which is not"
    protocols = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(b) for b in node.bases)
    ]
    declared = {id(node) for protocol in protocols for node in ast.walk(protocol)}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.AsyncFunctionDef) and id(node) not in declared:
            yield f"{module.name} is pure and has async {node.name}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in IMPURE_CALLS:
            yield f"{module.name} is pure and calls {ast.unparse(node.func)}"


def size_complaints(module: Module) -> Iterator[str]:
    """Modules that hold more than one concept, functions that do not fit on a screen."""
    lines = len(module.text.splitlines())
    if lines > MAX_MODULE_LINES:
        yield f"{module.name} has {lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{module.name}.{node.name} has {length} lines"


def edge_complaints(module: Module) -> Iterator[str]:
    """Printing, ending the process or reading the environment outside the command line."""
    if module.package == "cli":
        return
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name("print" | "exit" | "quit") as function):
                yield f"{module.name} calls {function.id}"
            case ast.Attribute(ast.Name("os"), "environ" | "environb" | "getenv" | "putenv"):
                yield f"{module.name} reads the environment"
            case ast.Attribute(ast.Name("sys"), "exit" | "argv"):
                yield f"{module.name} uses sys.{node.attr}"
            case ast.Attribute(ast.Name("os"), "_exit") if module.name not in EXITS:
                yield f"{module.name} ends the process"
            case ast.Name("SystemExit"):
                yield f"{module.name} raises SystemExit"
            case _:
                pass


def docstring_complaints(module: Module) -> Iterator[str]:
    """Modules that do not say what they are."""
    if not ast.get_docstring(module.tree):
        yield f"{module.name or 'keyferry'} has no docstring"


Rule = Callable[[Module], Iterator[str]]


@pytest.mark.parametrize(
    "rule",
    [
        layer_complaints,
        foreign_complaints,
        purity_complaints,
        size_complaints,
        edge_complaints,
        docstring_complaints,
    ],
)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    """No module of the source breaks a rule of the architecture."""
    assert [] == sorted({complaint for module in source() for complaint in rule(module)})


def test_a_test_module_tells_one_story() -> None:
    """None is longer than the limit but for those that are known, and these are known rightly."""
    tests = Path(__file__).parents[1]
    long = {
        path.relative_to(tests).as_posix(): lines
        for path in tests.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > MAX_TEST_MODULE_LINES
    }
    assert set(LONG_TEST_MODULES) == set(long), long


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports at run time make no circle."""
    modules = {f"keyferry.{module.name}" for module in source() if module.name}
    graph = {
        f"keyferry.{module.name}": (module.imports() & modules) - {f"keyferry.{module.name}"}
        for module in source()
    }
    assert [] == circle(graph)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The first way from a module back to itself; none in a graph without one."""
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for following in sorted(graph.get(name, ())):
            if found := visit(following, [*way, name]):
                return found
        done.add(name)
        return []

    for start in sorted(graph):
        if found := visit(start, []):
            return found
    return []


# --- the rules bite -------------------------------------------------------------------------------

BAD: list[tuple[Rule, str, str]] = [
    (layer_complaints, "driver.publish", "from keyferry.azure.provider import AzureProvider"),
    (layer_complaints, "driver.publish", "def f():\n    import keyferry.devvault.vault"),
    (layer_complaints, "driver.publish", "from keyferry.cli import main"),
    (layer_complaints, "azure.params", "from keyferry.store import PodRef"),
    (layer_complaints, "azure.params", "from keyferry.driver.plan import Skip"),
    (layer_complaints, "store.manifests", "from keyferry.driver.plan import Skip"),
    (layer_complaints, "devvault.vault", "from keyferry.contract import MountCall"),
    (layer_complaints, "contract", "from keyferry.driver.plan import Skip"),
    (layer_complaints, "contract", "from keyferry import driver"),
    (layer_complaints, "paths", "import keyferry.azure.params"),
    (foreign_complaints, "driver.publish", "import grpc"),
    (foreign_complaints, "driver.publish", "from aiohttp import web"),
    (foreign_complaints, "azure.keyvault", "import aiohttp"),
    (foreign_complaints, "azure.keyvault", "from azure.identity import aio"),
    (foreign_complaints, "driver.daemon", "import click"),
    (foreign_complaints, "cli.demo", "import grpc.aio"),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nimport os'),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nfrom pathlib import Path'),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nfrom keyferry.driver import atomic'),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nfrom keyferry.logs import get_logger'),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nasync def f(): ...'),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nnow = datetime.now(UTC)'),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nprint(1)'),
    (purity_complaints, "paths", '"""Rules. [pure]"""\nopen("x")'),
    (size_complaints, "paths", "\n" * 501),
    (size_complaints, "paths", "def f():\n" + "    pass\n" * 65),
    (edge_complaints, "paths", "print(1)"),
    (edge_complaints, "paths", "import sys\nsys.exit(1)"),
    (edge_complaints, "paths", "raise SystemExit"),
    (edge_complaints, "paths", "import os\nos.environ['HOME']"),
    (edge_complaints, "paths", "import os\nos.getenv('HOME')"),
    (edge_complaints, "driver.daemon", "import os\nos._exit(1)"),
    (docstring_complaints, "paths", "import re"),
]


@pytest.mark.parametrize(("rule", "name", "text"), BAD)
def test_a_module_that_breaks_the_rule_is_found(rule: Rule, name: str, text: str) -> None:
    """Each rule complains about the module that it exists for."""
    assert list(rule(Module(name, text)))


GOOD: list[tuple[Rule, str, str]] = [
    (layer_complaints, "providers", "from keyferry.azure.provider import build_provider"),
    (layer_complaints, "cli.demo", "from keyferry.driver.daemon import run_driver"),
    (layer_complaints, "azure.params", "if TYPE_CHECKING:\n    import keyferry.store"),
    (purity_complaints, "driver.plugins", '"""Finds. Has I/O."""\nimport os'),
    (
        purity_complaints,
        "contract",
        '"""X. [pure]"""\nclass P(Protocol):\n    async def f(self): ...',
    ),
    (edge_complaints, "cli.driver", "import sys\nsys.exit(print(1))"),
]


@pytest.mark.parametrize(("rule", "name", "text"), GOOD)
def test_a_module_that_keeps_the_rule_is_left_alone(rule: Rule, name: str, text: str) -> None:
    """What only looks like a breach is none."""
    assert [] == list(rule(Module(name, text)))


def test_a_circle_of_imports_is_found() -> None:
    """The way back is named, for whoever has to break it."""
    assert ["b", "c", "b"] == circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})
    assert [] == circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
