"""`keyferry devvault key` and `cert`: the commands that both have, and what lists show."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from keyferry.cli.output import OutputFormat, output_option, print_list
from keyferry.errors import RequestInvalidError
from keyferry_devvault.cli.options import CommandGroup, data_option, format_time, open_data
from keyferry_devvault.model import ObjectKind, Permission

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyferry_devvault.model import VaultObjectVersion
    from keyferry_devvault.storage.certificates import CertificateStore
    from keyferry_devvault.storage.data import DevVaultData
    from keyferry_devvault.storage.objects import ObjectTable


_COMMANDS = {ObjectKind.KEY: "key", ObjectKind.CERTIFICATE: "cert"}
"""The group of commands of each kind."""


def table_of(dev: DevVaultData, kind: ObjectKind) -> ObjectTable:
    """Return the table of keys or certificates."""
    return dev.vault_keys if kind is ObjectKind.KEY else dev.certificate_table


def store_of(dev: DevVaultData, kind: ObjectKind) -> ObjectTable | CertificateStore:
    """Return what changes keys, or certificates together with their keys and secrets."""
    return dev.vault_keys if kind is ObjectKind.KEY else dev.certificates


@contextmanager
def grant_access_if_created(dev: DevVaultData, vault: str) -> Iterator[None]:
    """Permit this machine to read `vault` if the block creates it."""
    known = dev.vaults.contains(vault)
    yield
    if not known:
        machine = dev.identities.ensure_system_assigned()
        dev.policies.set_permissions(vault, machine.client_id, [Permission.GET, Permission.LIST])
        click.echo(
            f"Created vault {vault.lower()}: the system-assigned identity of this machine may"
            " get and list."
        )


def print_created(row: VaultObjectVersion) -> None:
    """Print that a version was created."""
    click.echo(
        f"Created {row.kind.singular} {row.name} of vault {row.vault}, version {row.version}."
    )


def add_common_commands(group: CommandGroup, kind: ObjectKind) -> None:
    """Add the commands that keys and certificates have in common to `group`."""
    noun = kind.singular

    @group.command("list", help=f"List the {kind} of VAULT, or the versions of one, oldest first.")
    @click.argument("vault")
    @click.argument("name", required=False)
    @output_option
    @data_option
    def list_(vault: str, name: str | None, output: OutputFormat, data: Path) -> None:
        with open_data(data) as dev:
            dev.vaults.require(vault)
            table = table_of(dev, kind)
            if name is not None:
                table.get(vault, name)
            rows = table.versions(vault, name) if name else table.latest(vault)
        columns = {"NAME": "name", "VERSION": "version", "ENABLED": "enabled", "TYPE": "type"}
        print_list(
            [_details(row) for row in rows],
            {**columns, "CREATED": "created"},
            output,
            empty=f"no {kind} in vault {vault}",
        )

    @group.command("disable", help=f"Disable a version of {noun} NAME, so that it cannot be read.")
    @click.argument("vault")
    @click.argument("name")
    @click.option("--version", metavar="ID", help="This version instead of the latest.")
    @data_option
    def disable(vault: str, name: str, version: str | None, data: Path) -> None:
        _set_enabled(kind, data, vault, name, version, enabled=False)

    @group.command("enable", help=f"Enable a version of {noun} NAME.")
    @click.argument("vault")
    @click.argument("name")
    @click.option("--version", metavar="ID", help="This version instead of the latest.")
    @data_option
    def enable(vault: str, name: str, version: str | None, data: Path) -> None:
        _set_enabled(kind, data, vault, name, version, enabled=True)

    @group.command("delete", help=f"Delete {noun} NAME; it can be recovered.")
    @click.argument("vault")
    @click.argument("name")
    @click.option("--purge", is_flag=True, help="Delete it permanently.")
    @click.option("--recover", is_flag=True, help="Undo the deletion.")
    @data_option
    def delete(*, vault: str, name: str, purge: bool, recover: bool, data: Path) -> None:
        _delete(kind, data, vault, name, purge=purge, recover=recover)


def _details(row: VaultObjectVersion) -> dict[str, object]:
    return {
        "vault": row.vault,
        "name": row.name,
        "version": row.version,
        "enabled": row.enabled,
        "type": row.document["kty"],
        "created": format_time(row.created),
        "updated": format_time(row.updated),
    }


def _set_enabled(
    kind: ObjectKind, data: Path, vault: str, name: str, version: str | None, *, enabled: bool
) -> None:
    with open_data(data) as dev:
        row = store_of(dev, kind).set_enabled(vault, name, version, enabled=enabled)
    state = "Enabled" if enabled else "Disabled"
    click.echo(f"{state} {kind.singular} {row.name} of vault {row.vault}, version {row.version}.")


def _delete(
    kind: ObjectKind, data: Path, vault: str, name: str, *, purge: bool, recover: bool
) -> None:
    if purge and recover:
        raise RequestInvalidError("--purge and --recover exclude each other", "Pass one of them.")
    what = f"{kind.singular} {name} of vault {vault}"
    with open_data(data) as dev:
        dev.vaults.require(vault)
        store = store_of(dev, kind)
        deleted = table_of(dev, kind).find_deleted(vault, name)
        if recover:
            if deleted is None:
                raise RequestInvalidError(
                    f"there is no deleted {what}",
                    f"List the {kind}: {dev.hints.line(_COMMANDS[kind], 'list', vault)}",
                )
            store.recover(vault, name)
            click.echo(f"Recovered {what}.")
            return
        if not (deleted and purge):
            store.delete(vault, name)
        if purge:
            store.purge(vault, name)
        command = dev.hints.line(_COMMANDS[kind], "delete", vault, name, "--recover")
    click.echo(f"Purged {what}." if purge else f"Deleted {what}. Recover it with: {command}")
