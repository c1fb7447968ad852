"""The rules of the architecture, checked on the source: purity, sizes, cycles, edges.

Layers are contracts of import-linter in pyproject.toml.

Each rule is a function from modules to complaints, so that the last tests can show that it bites.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import keyferry

SOURCE = Path(keyferry.__file__).parents[1]
PACKAGES = ("keyferry", "keyferry_devvault")
MAX_MODULES_IN_FOLDER = 15
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 65
MAX_TEST_MODULE_LINES = 500

FOREIGN_HOMES: dict[str, tuple[str, ...]] = {
    # The demo acts as kubelet, which is a gRPC client.
    "grpc": (
        "keyferry.driver.csi",
        "keyferry.plugins.external_provider",
        "keyferry.driver.readiness",
        "keyferry.driver.registration",
        "keyferry.providers.server",
        "keyferry.net.grpc_server",
        "keyferry_devvault.demo",
    ),
    "aiohttp": (
        "keyferry.aio.http_library",
        "keyferry.net",
        "keyferry.kubernetes.api.streams",
        "keyferry.kubernetes.api.transport",
        "keyferry.providers.azure.auth.token_errors",
        "keyferry.providers.azure.auth.token_http",
        "keyferry.providers.vault.http.client",
        "keyferry.status_page.server",
        "keyferry_devvault.client",
        "keyferry_devvault.gateway",
        "keyferry_devvault.server",
    ),
    "joserfc": ("keyferry_devvault.crypto",),
    "lightkube": ("keyferry.kubernetes.api",),
    "httpx2": ("keyferry.kubernetes.api",),
    "azure": (),
    "click": ("keyferry.cli", "keyferry_devvault.cli", "keyferry_devvault.demo"),
    "prometheus_client": ("keyferry.telemetry", "keyferry.resilience.metrics"),
    "yaml": ("keyferry.formats",),
    "jmespath": ("keyferry.rendering.jmes_expression",),
    "re2": ("keyferry.rendering.selection",),
    "cryptography": (
        "keyferry.formats.certs",
        "keyferry_devvault.crypto",
        "keyferry_devvault.keyvault.object_bodies",
        "keyferry_devvault.storage.certificates",
        "keyferry_devvault.storage.signing_keys",
    ),
    "ctypes": ("keyferry.driver.volumes.mounter", "keyferry.isolation.sandbox", "keyferry.process"),
}
"""Where a library may be imported: in these modules and packages."""

IMPURE_IMPORTS = {
    "aiohttp", "asyncio", "ctypes", "fcntl", "grpc", "logging", "os", "pathlib", "random",
    "secrets", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys",
    "tempfile", "threading", "time", "urllib.request", "keyferry.telemetry.logs",
}  # fmt: skip

PURE_ALLOWED: dict[str, set[str]] = {
    # They match on the classes of foreign exceptions, and call nothing of these libraries.
    "keyferry.net.connection_errors": {"aiohttp", "socket", "ssl"},
    "keyferry.providers.azure.auth.token_errors": {"aiohttp"},
}

PURE_REEXPORTS = {"keyferry.kubernetes", "keyferry.proto"}
"""Packages whose `__init__` holds nothing but names of pure modules, or generated stubs."""

IMPURE_CALLS = {
    "open", "print", "input", "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
    "uuid4", "uuid.uuid4", "uuid1", "uuid.uuid1",
}  # fmt: skip

PARSER_HOMES = (
    "keyferry.formats.certs",
    "keyferry.providers.key_jobs",
    "keyferry.secrets.secret_data",
    "keyferry.rendering.template_filters",
)
"""Where functions that parse keys and certificates are called: they run in a parser process."""

NO_PARSERS = {"encode_block"}

EXITS = {
    "keyferry.net.grpc_server": "the second signal ends the process at once",
    "keyferry.isolation.spawner": "a forked process must not return to its caller",
}
"""Where a process may end outside the command line, and why."""


@dataclass(frozen=True)
class Module:
    """One module of the source.

    Attributes:
        name: dotted, as it is imported.
        text: its source.
        is_package: whether it is the `__init__` of a folder.
    """

    name: str
    text: str
    is_package: bool = False

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree, the same one each time."""
        return _parse(self.text)

    @property
    def is_command(self) -> bool:
        """Whether it belongs to a command line, which may print and exit."""
        return bool({"cli", "demo"} & set(self.name.split(".")))

    @property
    def is_pure(self) -> bool:
        """Whether the first paragraph of its docstring says so."""
        return "[pure]" in (ast.get_docstring(self.tree) or "").split("\n\n")[0]

    def imports(self) -> set[str]:
        """What it imports at run time, on first use included: modules, and names in them."""
        return set(_imports(self.tree))

    def all_imports(self) -> set[str]:
        """What it imports, for type checking too."""
        return set(_imports(self.tree, typing=True))

    def is_in(self, homes: tuple[str, ...]) -> bool:
        """Whether it is one of `homes`, or lies below one."""
        return any(self.name == home or self.name.startswith(f"{home}.") for home in homes)


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def _imports(node: ast.AST, *, typing: bool = False) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name("TYPE_CHECKING"), orelse=orelse) if not typing:
                for other in orelse:
                    yield from _imports(other)
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module="keyferry.aio.http_library"):
                yield "aiohttp"
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                yield from _imports(child, typing=typing)


def _name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def source() -> tuple[Module, ...]:
    """Every module but the generated stubs."""
    found = (path for package in PACKAGES for path in (SOURCE / package).rglob("*.py"))
    paths = sorted(path for path in found if not path.stem.endswith("_pb2"))
    return tuple(
        Module(_name_of(path), path.read_text(), path.stem == "__init__") for path in paths
    )


# --- the rules ------------------------------------------------------------------------------------


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
    pure = {other.name for other in source() if other.is_pure} | PURE_REEXPORTS
    modules = {other.name for other in source()}
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
    if module.is_command:
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


def parser_complaints(module: Module) -> Iterator[str]:
    """Parsing of keys and certificates outside the functions of parse jobs."""
    for imported in module.imports():
        package, _, name = imported.rpartition(".")
        if not package.startswith("keyferry.formats.certs") or not name.islower():
            continue
        is_function = imported not in {other.name for other in source()}
        if is_function and name not in NO_PARSERS and not module.is_in(PARSER_HOMES):
            yield f"{module.name} imports {imported}"


def docstring_complaints(module: Module) -> Iterator[str]:
    """Modules that do not say what they are."""
    if not ast.get_docstring(module.tree):
        yield f"{module.name} has no docstring"


PROBING_PACKAGES = ("keyferry.cli", "keyferry.kubernetes.files", "keyferry_devvault")
"""They look at paths that a user names."""

PROBES = {
    "exists", "is_dir", "is_file", "is_symlink", "rglob", "glob", "iterdir", "read_bytes",
    "read_text", "write_bytes", "write_text", "stat", "lstat", "open", "mkdir", "touch", "unlink",
    "rmdir", "chmod",
}  # fmt: skip

PROBING_EXEMPT = {
    "keyferry.cli.flags.paths": "its callers translate",
    "keyferry.cli.failures": "opens /dev/null only",
}


def probe_complaints(module: Module) -> Iterator[str]:
    """A look at a path whose `OSError` nothing in the same function catches.

    `Path.exists` and its like raise for a folder that may not be read, or a name that is too long.
    """
    exempt = module.name in PROBING_EXEMPT or ".demo" in module.name
    if module.is_in(PROBING_PACKAGES) and not exempt:
        for call in _bare_probes(module.tree, caught=False):
            yield f"{module.name} line {call.lineno}: {ast.unparse(call.func)} without `except`"


def _bare_probes(node: ast.AST, *, caught: bool) -> Iterator[ast.Call]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            caught = False
        case ast.Try(body, handlers):
            inside = caught or any(_catches_os_errors(handler.type) for handler in handlers)
            for child in ast.iter_child_nodes(node):
                yield from _bare_probes(child, caught=inside if child in body else caught)
            return
        case ast.With(items):
            shown = ast.unparse(items[0].context_expr)
            caught = caught or "translate_os_errors" in shown or "suppress(OSError" in shown
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in PROBES and not caught:
            yield node
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _bare_probes(child, caught=caught)


def _catches_os_errors(kind: ast.expr | None) -> bool:
    names = {each.id for each in ast.walk(kind) if isinstance(each, ast.Name)} if kind else set()
    return kind is None or bool(names & {"OSError", "Exception", "BaseException"})


Rule = Callable[[Module], Iterator[str]]


@pytest.mark.parametrize(
    "rule",
    [
        foreign_complaints,
        parser_complaints,
        purity_complaints,
        size_complaints,
        edge_complaints,
        docstring_complaints,
        probe_complaints,
    ],
)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    """No module of the source breaks a rule of the architecture."""
    assert [] == sorted({complaint for module in source() for complaint in rule(module)})


def test_no_test_module_is_too_long() -> None:
    """A long one covers several subjects and can be split by them."""
    tests = Path(__file__).parents[1]
    long = {
        path.relative_to(tests).as_posix(): lines
        for path in tests.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > MAX_TEST_MODULE_LINES
    }
    assert not long


def folder_complaints(modules: Iterable[Module]) -> Iterator[str]:
    """Folders with more modules than a reader can take in."""
    sizes = Counter(module.name.rpartition(".")[0] for module in modules if not module.is_package)
    yield from (f"{name}: {n} modules" for name, n in sizes.items() if n > MAX_MODULES_IN_FOLDER)


def test_no_folder_has_too_many_modules() -> None:
    """The place of a change is obvious from the tree."""
    assert [] == list(folder_complaints(source()))
    crowd = [Module(f"keyferry.aio.m{number}", "") for number in range(16)]
    assert ["keyferry.aio: 16 modules"] == list(folder_complaints(crowd))


def test_no_module_imports_itself_by_a_detour() -> None:
    """Imports make no cycle, imports for type checking included."""
    modules = {module.name for module in source()}
    graph = {module.name: (module.all_imports() & modules) - {module.name} for module in source()}
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
    (foreign_complaints, "keyferry.driver.engine", "import grpc"),
    (foreign_complaints, "keyferry.driver.engine", "from aiohttp import web"),
    (foreign_complaints, "keyferry.providers.azure.keyvault", "import aiohttp"),
    (foreign_complaints, "keyferry.providers.azure.keyvault", "from azure.identity import aio"),
    (foreign_complaints, "keyferry.driver.daemon", "import click"),
    (foreign_complaints, "keyferry.formats.certs", "from joserfc import jws"),
    (foreign_complaints, "keyferry.cli.mount", "import grpc.aio"),
    (purity_complaints, "keyferry.formats.paths", '"""Rules. [pure]"""\nimport os'),
    (
        purity_complaints,
        "keyferry.formats.volume_paths",
        '"""Rules. [pure]"""\nfrom pathlib import Path',
    ),
    (
        purity_complaints,
        "keyferry.formats.volume_paths",
        '"""Rules. [pure]"""\nfrom keyferry.driver import csi',
    ),
    (
        purity_complaints,
        "keyferry.formats.volume_paths",
        '"""Rules. [pure]"""\nimport keyferry.telemetry.logs',
    ),
    (purity_complaints, "keyferry.formats.paths", '"""Rules. [pure]"""\nasync def f(): ...'),
    (
        purity_complaints,
        "keyferry.formats.volume_paths",
        '"""Rules. [pure]"""\nnow = datetime.now(UTC)',
    ),
    (purity_complaints, "keyferry.formats.paths", '"""Rules. [pure]"""\nprint(1)'),
    (purity_complaints, "keyferry.formats.paths", '"""Rules. [pure]"""\nopen("x")'),
    (size_complaints, "keyferry.formats.volume_paths", "\n" * 501),
    (size_complaints, "keyferry.formats.volume_paths", "def f():\n" + "    pass\n" * 65),
    (edge_complaints, "keyferry.formats.volume_paths", "print(1)"),
    (probe_complaints, "keyferry.cli.mount", "def f(path):\n    return path.exists()"),
    (edge_complaints, "keyferry.formats.volume_paths", "import sys\nsys.exit(1)"),
    (edge_complaints, "keyferry.formats.volume_paths", "raise SystemExit"),
    (edge_complaints, "keyferry.formats.volume_paths", "import os\nos.environ['HOME']"),
    (edge_complaints, "keyferry.formats.volume_paths", "import os\nos.getenv('HOME')"),
    (edge_complaints, "keyferry.driver.daemon", "import os\nos._exit(1)"),
    (docstring_complaints, "keyferry.formats.volume_paths", "import re"),
    (
        parser_complaints,
        "keyferry.providers.azure.provider",
        "from keyferry.formats.certs.pkcs12 import read_pkcs12",
    ),
    (
        parser_complaints,
        "keyferry.secrets.builder",
        "from keyferry.formats.certs import chain_of_key",
    ),
]


@pytest.mark.parametrize(("rule", "name", "text"), BAD)
def test_a_module_that_breaks_the_rule_is_found(rule: Rule, name: str, text: str) -> None:
    """Each rule complains about the module that it exists for."""
    assert list(rule(Module(name, text)))


GOOD: list[tuple[Rule, str, str]] = [
    (purity_complaints, "keyferry.plugins.providers", '"""Finds. Has I/O."""\nimport os'),
    (
        purity_complaints,
        "keyferry.providers.api",
        '"""X. [pure]"""\nclass P(Protocol):\n    async def f(self): ...',
    ),
    (edge_complaints, "keyferry.cli.daemons.driver", "import sys\nsys.exit(print(1))"),
    (
        probe_complaints,
        "keyferry.cli.mount",
        "def f(path):\n    try:\n        path.exists()\n    except OSError:\n        return 0",
    ),
    (
        parser_complaints,
        "keyferry.providers.azure.provider",
        "from keyferry.formats.certs.material import KeyMaterial",
    ),
]


@pytest.mark.parametrize(("rule", "name", "text"), GOOD)
def test_a_module_that_keeps_the_rule_is_not_changed(rule: Rule, name: str, text: str) -> None:
    """What only resembles a violation is accepted."""
    assert [] == list(rule(Module(name, text)))


def test_a_circle_of_imports_is_found() -> None:
    """The error names the path of the cycle."""
    assert ["b", "c", "b"] == circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})
    assert [] == circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
