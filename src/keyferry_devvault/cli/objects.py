"""`keyferry devvault key` and `cert`: the commands that both have, and what lists show."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from keyferry.errors import RequestInvalidError
from keyferry_devvault.cli.options import CommandGroup, data_option, format_time
from keyferry_devvault.model import ObjectKind, Permission
from keyferry_devvault.storage.data import DevVaultData

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keyferry_devvault.model import VaultObjectVersion
    from keyferry_devvault.storage.certificates import CertificateStore
    from keyferry_devvault.storage.objects import ObjectTable


def table_of(dev: DevVaultData, kind: ObjectKind) -> ObjectTable:
    """Return the table of keys or certificates."""
    return dev.vault_keys if kind is ObjectKind.KEY else dev.certificates.certificates


def store_of(dev: DevVaultData, kind: ObjectKind) -> ObjectTable | CertificateStore:
    """Return what changes keys, or certificates together with their keys and secrets."""
    return dev.vault_keys if kind is ObjectKind.KEY else dev.certificates


@contextmanager
def grant_access_if_created(dev: DevVaultData, vault: str) -> Iterator[None]:
    """Permit this machine to read `vault` if the block creates it."""
    known = vault.lower() in dev.secrets.vaults()
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
    @data_option
    def list_(vault: str, name: str | None, data: Path) -> None:
        with DevVaultData(data) as dev:
            table = table_of(dev, kind)
            if name is not None:
                table.get(vault, name)
            for row in table.versions(vault, name) if name else table.latest(vault):
                click.echo(_format_row(row))

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


def _format_row(row: VaultObjectVersion) -> str:
    state = "enabled" if row.enabled else "disabled"
    what = row.document["kty"]
    return f"{row.name}  {row.version}  {state}  {what}  {format_time(row.created)}"


def _set_enabled(
    kind: ObjectKind, data: Path, vault: str, name: str, version: str | None, *, enabled: bool
) -> None:
    with DevVaultData(data) as dev:
        row = store_of(dev, kind).set_enabled(vault, name, version, enabled=enabled)
    state = "Enabled" if enabled else "Disabled"
    click.echo(f"{state} {kind.singular} {row.name} of vault {row.vault}, version {row.version}.")


def _delete(
    kind: ObjectKind, data: Path, vault: str, name: str, *, purge: bool, recover: bool
) -> None:
    if purge and recover:
        raise RequestInvalidError("--purge and --recover exclude each other", "Pass one of them.")
    what = f"{kind.singular} {name} of vault {vault}"
    with DevVaultData(data) as dev:
        store = store_of(dev, kind)
        deleted = table_of(dev, kind).find_deleted(vault, name)
        if recover:
            if deleted is None:
                raise RequestInvalidError(
                    f"there is no deleted {what}", "Check the names of the vault and the object."
                )
            store.recover(vault, name)
            click.echo(f"Recovered {what}.")
            return
        if not (deleted and purge):
            store.delete(vault, name)
        if purge:
            store.purge(vault, name)
    click.echo(f"Purged {what}." if purge else f"Deleted {what}; --recover restores it.")
