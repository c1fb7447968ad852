"""Mistakes on the command line, of `run` and `get`, of the daemons and of the emulator."""

from __future__ import annotations

from pathlib import Path

from tests.integration.mistakes.mistake import (
    APP,
    AZURE,
    CANARY,
    CLIENT,
    MOUNT,
    MOUNT_DEV,
    MOUNT_TOKENS,
    VAULT,
    Mistake,
)

_CLASS = {"web.yaml": AZURE}
_DEV = "--dev-vault vault"
_DATA = "--data vault"
_SOCKET = "--endpoint unix://{home}/csi.sock --volumes folder --isolation none"
_NODE = f"--nodeid node-1 {_SOCKET} --metrics-addr 127.0.0.1:0"


def _unreadable_folder(folder: Path) -> None:
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)


def _not_executable(folder: Path) -> None:
    (folder / "script").write_text("#!/bin/sh\n")


COMMAND_LINE = (
    Mistake("A misspelt command", "mont web.yaml secrets"),
    Mistake("A command of another tool", "apply -f web.yaml"),
    Mistake("A misspelt option", f"{MOUNT} --devvault vault", _CLASS),
    Mistake("No arguments", "mount"),
    Mistake("TARGET is missing", "mount web.yaml", _CLASS),
    Mistake("Too many arguments", "mount web.yaml secrets more", _CLASS),
    Mistake("The arguments are swapped", f"mount secrets web.yaml {_DEV}", _CLASS),
    Mistake("An option without its value", f"{MOUNT} --class", _CLASS),
    Mistake("--interval without a unit", f"{MOUNT_DEV} --watch --interval 30", _CLASS),
    Mistake("--interval is 0", f"{MOUNT_DEV} --watch --interval 0s", _CLASS),
    Mistake("--interval without --watch", f"{MOUNT_DEV} --interval 30s", _CLASS),
    Mistake("--timeout is not a duration", f"{MOUNT_DEV} --timeout soon", _CLASS),
    Mistake("--vault-qps is not a number", f"{MOUNT_DEV} --vault-qps many", _CLASS),
    Mistake("--vault-qps is negative", f"{MOUNT_DEV} --vault-qps -1", _CLASS),
    Mistake("--cloud-name is unknown", f"{MOUNT_DEV} --cloud-name AzureGermany", _CLASS),
    Mistake(
        "A boolean option is neither true nor false",
        f"{MOUNT_DEV} --construct-pem-chain maybe",
        _CLASS,
    ),
    Mistake(
        "VAULT_ADDR is not a URL",
        MOUNT_DEV,
        _CLASS,
        environ={"VAULT_ADDR": "vault:8200"},
    ),
    Mistake(
        "A proxy variable is not a URL",
        MOUNT_TOKENS,
        {"web.yaml": VAULT.replace("{vault}", "http://vault.example.com:8200")},
        environ={"HTTP_PROXY": "http://proxy example:3128"},
    ),
    Mistake("Standard input is empty", f"mount - secrets {_DEV}"),
    Mistake("get without an object", f"get web.yaml {_DEV}", _CLASS),
    Mistake("get of an unknown object", f"get web.yaml db-pasword {_DEV}", _CLASS),
    Mistake("run without a command", f"run web.yaml {_DEV}", _CLASS),
    Mistake("run of an unknown program", f"run web.yaml {_DEV} -- no-such-program", _CLASS),
    Mistake(
        "run of a file that is not executable",
        f"run web.yaml {_DEV} -- ./script",
        _CLASS,
        _not_executable,
    ),
    Mistake("run without --", "run web.yaml env --dev-vault nowhere", _CLASS),
    Mistake("An unknown shell", "completion tcsh"),
    Mistake("An unknown output format", "version -o xml"),
)

DAEMONS = (
    Mistake(
        "driver without --nodeid",
        f"driver {_SOCKET} --registration-dir .",
    ),
    Mistake("driver with an unknown flag", "driver --nodid node-1"),
    Mistake("driver with an invalid duration", f"driver {_NODE} --rotation-poll-interval 2"),
    Mistake("driver with an invalid boolean", f"driver {_NODE} --enable-secret-rotation=on"),
    Mistake(
        "driver with an invalid endpoint",
        "driver --nodeid node-1 --endpoint csi.sock --volumes folder --isolation none",
    ),
    Mistake("driver with a missing --manifests", f"driver {_NODE} --manifests nowhere"),
    Mistake(
        "driver with unreadable --manifests",
        f"driver {_NODE} --manifests closed",
        prepare=_unreadable_folder,
    ),
    Mistake("driver without a Kubernetes API", f"driver {_NODE}"),
    Mistake("driver with a missing --kubeconfig", f"driver {_NODE} --kubeconfig nowhere.yaml"),
    Mistake(
        "driver with an unknown provider", f"driver {_NODE} --manifests . --builtin-providers azrue"
    ),
    Mistake("driver with an unknown --isolation", "driver --nodeid node-1 --isolation yes"),
    Mistake(
        "driver without root",
        "driver --nodeid node-1 --endpoint unix://{home}/csi.sock --manifests .",
    ),
    Mistake(
        "driver with an invalid --metrics-addr",
        f"driver --nodeid node-1 {_SOCKET} --manifests . --metrics-addr 8095x",
    ),
    Mistake(
        "driver with a port in use",
        f"driver --nodeid node-1 {_SOCKET} --manifests . --metrics-addr {{busy}}",
    ),
    Mistake(
        "driver with an endpoint that cannot be created",
        f"driver {_NODE.replace('{home}', '/proc')} --manifests .",
    ),
    Mistake(
        "driver with the data folder of no emulator",
        f"driver {_NODE} --manifests . --dev-vault nowhere",
    ),
    Mistake("driver with an argument that is no flag", "driver node-1"),
    Mistake("provider without a name", "provider"),
    Mistake("provider with an unknown name", "provider gcp"),
    Mistake("provider with an unknown flag", "provider azure --endpiont unix://azure.sock"),
)

EMULATOR = (
    Mistake("devvault with a misspelt command", "devvault lst contoso"),
    Mistake("devvault run on a folder in use", f"devvault run {_DATA}"),
    Mistake(
        "devvault run on an unreadable folder",
        "devvault run --data closed",
        prepare=_unreadable_folder,
    ),
    Mistake("devvault run on a file", "devvault run --data web.yaml", _CLASS),
    Mistake("devvault run for the network", "devvault run --data new --listen 0.0.0.0:0"),
    Mistake("devvault run on a port in use", "devvault run --data new --listen {busy}"),
    Mistake("devvault run on an invalid address", "devvault run --data new --listen 8443"),
    Mistake("devvault status of no folder", "devvault status --data nowhere", is_warning=True),
    Mistake(
        "devvault status of an unreadable folder",
        "devvault status --data closed",
        prepare=_unreadable_folder,
    ),
    Mistake("devvault list of no folder", "devvault list contoso --data nowhere"),
    Mistake("devvault list of an unknown vault", f"devvault list contosso {_DATA}"),
    Mistake("devvault get of an unknown vault", f"devvault get contosso db-password {_DATA}"),
    Mistake("devvault get of an unknown secret", f"devvault get contoso db-pasword {_DATA}"),
    Mistake(
        "devvault get of an unknown version",
        f"devvault get contoso db-password --version 1 {_DATA}",
    ),
    Mistake(
        "devvault set of an invalid name", f"devvault set contoso db_password {_DATA}", stdin="x"
    ),
    Mistake("devvault set in an invalid vault", f"devvault set a db-password {_DATA}", stdin="x"),
    Mistake(
        "devvault set of a missing file", f"devvault set contoso new --value-file nowhere {_DATA}"
    ),
    Mistake(
        "devvault set with an invalid expiry",
        f"devvault set contoso new --expires tomorrow {_DATA}",
        stdin="x",
    ),
    Mistake(
        "devvault set with an invalid tag",
        f"devvault set contoso new --tag team {_DATA}",
        stdin="x",
    ),
    Mistake(
        "devvault set with the value as an argument", f"devvault set contoso new {CANARY} {_DATA}"
    ),
    Mistake(
        "devvault policy of an unknown identity",
        f"devvault policy contoso 66666666-0000-4000-8000-000000000006 --allow get {_DATA}",
    ),
    Mistake(
        "devvault policy with an unknown permission",
        f"devvault policy contoso {CLIENT} --allow read {_DATA}",
    ),
    Mistake(
        "devvault identity federate with an invalid subject",
        f"devvault identity federate {APP} --subject shop:web {_DATA}",
    ),
    Mistake("devvault token with an invalid subject", f"devvault token --subject shop:web {_DATA}"),
    Mistake(
        "devvault tune with an invalid fault", f"devvault tune --fault 'contoso explode' {_DATA}"
    ),
    Mistake("devvault tune with an invalid latency", f"devvault tune --latency slow {_DATA}"),
    Mistake(
        "devvault cert import of another file",
        f"devvault cert import contoso web web.yaml {_DATA}",
        _CLASS,
    ),
    Mistake(
        "devvault key create with an unknown curve",
        f"devvault key create contoso signing --kty EC --curve P-128 {_DATA}",
    ),
)

COMMAND_GROUPS: tuple[tuple[str, tuple[Mistake, ...]], ...] = (
    ("Command line", COMMAND_LINE),
    ("Driver and providers", DAEMONS),
    ("Emulator", EMULATOR),
)
