"""What a process loads before it is ready: every import is paid for by each start of each node."""

from __future__ import annotations

import ast
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import keyferry
from keyferry.net.connector import system_tls
from keyferry_devvault.crypto.development_ca import CA_FILE, load_or_create_ca
from keyferry_devvault.storage.data import DevVaultData

BEHIND_CSI = (
    "aiohttp.web",
    "cryptography",
    "httpx2",
    "keyferry.driver.engine",
    "keyferry.driver.node",
    "keyferry.kubernetes.api.store",
    "keyferry.providers.azure.provider",
    "keyferry.providers.vault.provider",
    "lightkube",
)
"""What is imported after the CSI socket is served, because only a publish needs it."""
BEHIND_CSI_WITHOUT_CHILDREN = ("aiohttp", "prometheus_client")
"""With child processes these come first: the children are forked before gRPC starts threads."""


UNTIL_CSI_IS_SERVED = """
import os, sys

from keyferry.cli.daemons.driver import DRIVER_FLAGS, _run, settings_from
from keyferry.cli.flags.go_flags import parse_flags
from keyferry.driver.settings import Isolation
from keyferry.records import replace

def stop_behind_csi(event, arguments):
    if event == "import" and arguments[0] == "keyferry.driver.node":
        assert os.path.exists("csi.sock")
        print(*sys.modules, flush=True)
        os._exit(0)

flags = [f"--endpoint=unix://{os.getcwd()}/csi.sock", "--nodeid=n", "--isolation=none"]
settings = settings_from(parse_flags(flags, DRIVER_FLAGS))
sys.addaudithook(stop_behind_csi)
_run(replace(settings, isolation=Isolation(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("isolation", "later"),
    [("process", BEHIND_CSI), ("none", BEHIND_CSI + BEHIND_CSI_WITHOUT_CHILDREN)],
)
def test_csi_is_served_before_the_engine_is_imported(
    isolation: str, later: tuple[str, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", UNTIL_CSI_IS_SERVED, isolation]
    imported = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert not set(later) & set(imported.stdout.split())


LATER = ("httpcore2", "anyio", "cryptography", "azure", "keyferry_devvault", "joserfc", "jmespath")
"""For other commands, for one kind of object, or replaced by something cheaper."""


def _said(program: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("library", LATER)
def test_the_driver_starts_without(library: str) -> None:
    """With the Kubernetes API and all providers."""
    modules = (
        "cli.daemons.driver",
        "kubernetes.api.store",
        "providers.azure.provider",
        "providers.vault.provider",
    )
    imports = "".join(f"import keyferry.{module}\n" for module in modules)
    assert "False" == _said(f"import sys\n{imports}print({library!r} in sys.modules)")


def test_the_spawner_has_imported_what_parses_secrets() -> None:
    """Each parser would otherwise import it for itself."""
    modules = {"keyferry.formats.certs.tls", "keyferry.secrets.pull_secrets"}
    program = (
        "import sys\n"
        "from keyferry.driver.children import preload_children\n"
        "preload_children(())\n"
        f"print({modules!r} <= set(sys.modules))"
    )
    assert "True" == _said(program)


def test_lint_imports_no_parser_of_keys() -> None:
    """The filters of templates and the names of keys need none."""
    program = (
        "import sys, keyferry.lint.linter\n"
        "print({'keyferry.formats.certs.tls', 'keyferry.secrets.pull_secrets',"
        " 'keyferry.kubernetes.syncs.codec'} & set(sys.modules))"
    )
    assert "set()" == _said(program)


AIOHTTP_AFTER_THE_LIBRARY = {"keyferry.net.status_server", "keyferry.status_page.server"}
"""They import `aiohttp.web`, after `http_library`."""


def _imports_aiohttp(tree: ast.AST) -> bool:
    """Whether a module imports aiohttp itself when it is imported, and not for types alone."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                continue
            case ast.Import(names) if any(alias.name.startswith("aiohttp") for alias in names):
                return True
            case ast.ImportFrom(module=str(module)) if module.startswith("aiohttp"):
                return True
        if _imports_aiohttp(node):
            return True
    return False


def test_every_module_imports_aiohttp_without_the_cas_of_the_machine() -> None:
    source = Path(keyferry.__file__).parent
    direct = {
        f"keyferry.{'.'.join(path.relative_to(source).with_suffix('').parts)}"
        for path in source.rglob("*.py")
        if _imports_aiohttp(ast.parse(path.read_text()))
    }
    assert direct == AIOHTTP_AFTER_THE_LIBRARY | {"keyferry.aio.http_library"}


def test_no_import_reads_the_cas_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes 30 ms and 1 MiB for each TLS context."""
    load_or_create_ca(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / CA_FILE))
    program = (
        "import gc, ssl\n"
        "import keyferry.driver.node, keyferry.kubernetes.api.store\n"
        "from keyferry.net.connector import system_tls\n"
        "from keyferry.providers.registry import preload, provider_names\n"
        "preload(provider_names())\n"
        "made = [each for each in gc.get_objects() if isinstance(each, ssl.SSLContext)]\n"
        "print(*{each.cert_store_stats()['x509'] for each in [*made, system_tls()]})"
    )
    assert _said(program) == "0 1"


def test_connections_verify_servers_with_the_cas_of_the_machine() -> None:
    """The contexts of aiohttp trust no CA, so Keyferry must not use them."""
    assert system_tls().verify_mode is ssl.CERT_REQUIRED
    assert system_tls().check_hostname
    assert system_tls() is system_tls()


def test_the_collector_looks_for_garbage_but_not_among_what_was_imported() -> None:
    """It is on when the command runs, and the modules are out of its way."""
    program = (
        "import gc, click, keyferry.cli as cli\n"
        "cli.keyferry.get_command(click.Context(cli.keyferry), 'driver')\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 30_000)"
    )
    assert "True True" == _said(program)


HEAVY = (
    "aiohttp",
    "asyncio",
    "cryptography",
    "google.protobuf",
    "grpc",
    "joserfc",
    "lightkube",
    "rich",
    "ssl",
)
"""What only a command that runs needs; a help page or a read of the emulator must not wait."""
HELP = (
    "--help",
    "--version",
    "version",
    "completion bash",
    "mount --help",
    "unmount --help",
    "run --help",
    "get --help",
    "lint --help",
    "devvault --help",
    "devvault list contoso",
    "devvault get contoso db",
    "devvault status",
    "devvault policy contoso",
    "devvault identity list",
)


def _modules(arguments: list[str]) -> set[str]:
    """The modules that a command imports."""
    program = (
        "import contextlib, io, sys\n"
        "from keyferry.cli import keyferry\n"
        "from keyferry.cli.failures import run_command\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    code = run_command(keyferry, {arguments!r}, name='keyferry')\n"
        "assert code == 0, code\n"
        "print(*sys.modules)"
    )
    return set(_said(program).split())


@pytest.mark.parametrize("command", HELP)
def test_a_command_that_only_reads_imports_no_engine(command: str, tmp_path: Path) -> None:
    """So that it starts in a tenth of a second."""
    arguments = command.split()
    if arguments[0] == "devvault" and "--help" not in arguments:
        with DevVaultData(tmp_path) as data:
            data.secrets.set("contoso", "db", "x")
        arguments += ["--data", str(tmp_path)]
    imported = _modules(arguments)
    assert [] == [library for library in HEAVY if library in imported]


def test_lint_of_a_file_imports_no_engine(tmp_path: Path) -> None:
    """So that it takes 0.15 s of CPU time, as a hook of pre-commit."""
    (tmp_path / "class.yaml").write_text(
        "apiVersion: secrets-store.csi.x-k8s.io/v1\n"
        "kind: SecretProviderClass\n"
        "metadata: {name: app}\n"
        "spec:\n"
        "  provider: azure\n"
        "  parameters:\n"
        "    keyvaultName: contoso\n"
        "    tenantID: 00000000-0000-0000-0000-000000000001\n"
        "    objects: |\n"
        "      array:\n"
        "        - |\n"
        "          objectName: db\n"
        "          objectType: secret\n"
    )
    imported = _modules(["lint", str(tmp_path / "class.yaml")])
    unneeded = (*HEAVY, "_hashlib", "keyferry.providers.api")
    assert [] == [library for library in unneeded if library in imported]


@pytest.mark.parametrize("command", ["driver --help", "provider azure --help"])
def test_help_of_a_daemon_imports_neither_grpc_nor_aiohttp(command: str) -> None:
    assert not {"grpc", "aiohttp", "cryptography"} & _modules(command.split())
