"""The command `keyferry`. The module of a sub-command is imported when the command runs."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from keyferry import __version__
from keyferry.cli.commands import Group
from keyferry.cli.failures import run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

_COMMANDS: Final = {
    "mount": ("keyferry.cli.mount", "Fetch the objects of a SecretProviderClass as files."),
    "unmount": ("keyferry.cli.mount", "Unmount a folder and remove its files."),
    "run": ("keyferry.cli.run", "Run a command with the objects as environment variables."),
    "get": ("keyferry.cli.get", "Print the value of one object."),
    "lint": (
        "keyferry.cli.diagnosis.lint",
        "Check SecretProviderClasses, SecretSyncs and pods.",
    ),
    "doctor": (
        "keyferry.cli.diagnosis.doctor",
        "Find the stage at which a mount fails.",
    ),
    "refresh": ("keyferry.cli.cluster.refresh", "Ask the drivers of a cluster to refresh volumes."),
    "status": ("keyferry.cli.cluster.status", "Show which pod has which version of an object."),
    "ui": ("keyferry.cli.cluster.ui", "Show the status page of a cluster in the browser."),
    "version": ("keyferry.cli.version", "Print the version, the commit and the protocol."),
    "completion": ("keyferry.cli.completion", "Print a script that completes command lines."),
    "driver": ("keyferry.cli.daemons.driver", "Run the node daemon (CSI driver)."),
    "sync-controller": (
        "keyferry.cli.daemons.sync_controller",
        "Turn SecretSyncs into Kubernetes Secrets, without a pod.",
    ),
    "provider": (
        "keyferry.cli.daemons.provider",
        "Serve one built-in provider to another CSI driver.",
    ),
}
"""Module and summary by name. The summaries are here so that `--help` imports no command."""

_ENTRY_POINTS: Final = "keyferry.commands"
"""The group of the entry points by which other distributions add commands."""

_EMULATOR_COMMANDS: Final = {
    "demo": "Show the complete flow on this machine, from vault to pod.",
    "devvault": "Emulate Azure Key Vault for laptops and CI.",
}
"""The commands of the distribution `keyferry-devvault`, for a clear error without it."""


class _LazyGroup(Group):
    """Imports only the command that runs, so that each process loads only what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, *sorted(_entry_points())]

    def summary(self, ctx: click.Context, name: str) -> str:
        if name in _COMMANDS:
            return _COMMANDS[name][1]
        return _EMULATOR_COMMANDS.get(name) or super().summary(ctx, name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            module, _ = _COMMANDS[cmd_name]
            attribute = cmd_name.replace("-", "_")
            return _without_gc(lambda: getattr(import_module(module), attribute))
        if entry_point := _entry_points().get(cmd_name):
            return _without_gc(entry_point.load)
        if cmd_name in _EMULATOR_COMMANDS:
            from keyferry.providers.emulator import INSTALL_COMMAND

            raise click.UsageError(
                f"'keyferry {cmd_name}' is not installed. Run: {INSTALL_COMMAND}"
            )
        return None


def _entry_points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # takes 30 ms to import

    return {entry.name: entry for entry in entry_points(group=_ENTRY_POINTS)}


def _without_gc(load: Callable[[], click.Command]) -> click.Command:
    """Import a command and exclude its objects from garbage collection.

    They live as long as the process. Scanning them would take a tenth of the start time, and
    occasionally 40 ms in the middle of a mount.
    """
    gc.disable()
    try:
        return load()
    finally:
        gc.freeze()
        gc.enable()


@click.group(
    cls=_LazyGroup,
    examples=(
        "keyferry demo",
        "keyferry mount app.yaml ./secrets --dev-vault ./vault",
    ),
)
@click.version_option(__version__, message="%(version)s")
def keyferry() -> None:
    """Deliver secrets from a vault to pods, as files and as synced Kubernetes Secrets."""


class _PluginGroup(_LazyGroup):
    """The commands that work with a cluster, for `kubectl keyferry`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in super().list_commands(ctx) if name in _PLUGIN_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) if cmd_name in _PLUGIN_COMMANDS else None


_PLUGIN_COMMANDS: Final = ("doctor", "lint", "refresh", "status", "ui", "version")


@click.group(
    cls=_PluginGroup,
    examples=("kubectl keyferry status -n shop", "kubectl keyferry lint manifests/"),
)
@click.version_option(__version__, message="%(version)s")
def plugin() -> None:
    """Look at what Keyferry does in a cluster."""


def main() -> None:
    """Run the command line."""
    sys.exit(run_command(keyferry, sys.argv[1:], name="keyferry"))


def plugin_main() -> None:
    """Run the plugin of kubectl, which finds `kubectl-keyferry` on PATH."""
    sys.exit(run_command(plugin, sys.argv[1:], name="kubectl keyferry"))


def complete_plugin_main() -> None:
    """Complete a command line of the plugin, for kubectl."""
    from keyferry.cli.completion import kubectl_completions

    click.echo(kubectl_completions(plugin, sys.argv[1:]))
