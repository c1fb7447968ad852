"""`keyferry devvault key`: commands for keys."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import click

from keyferry_devvault.cli.objects import (
    add_common_commands,
    grant_access_if_created,
    print_created,
)
from keyferry_devvault.cli.options import (
    CommandGroup,
    create_data,
    data_option,
    open_data,
    read_secret_text,
)
from keyferry_devvault.model import ObjectKind
from keyferry_devvault.storage.objects import check_object_name

if TYPE_CHECKING:
    from pathlib import Path


@click.group(cls=CommandGroup)
def key() -> None:
    """Create, import and manage keys."""


@key.command()
@click.argument("vault")
@click.argument("name")
@click.option("--kty", "kind", default="RSA", show_default=True, help="RSA, EC, RSA-HSM or EC-HSM.")
@click.option("--size", default=2048, show_default=True, help="Bits of an RSA key.")
@click.option("--curve", default="P-256", show_default=True, help="P-256, P-384, P-521 or P-256K.")
@data_option
def create(*, vault: str, name: str, kind: str, size: int, curve: str, data: Path) -> None:
    """Create a new version of key NAME, and VAULT if it does not exist."""
    from keyferry_devvault.crypto.key_material import generate_key, key_pem

    document = {"pem": key_pem(generate_key(kind, size=size, curve=curve)), "kty": kind}
    with create_data(data) as dev, grant_access_if_created(dev, vault):
        check_object_name(name, ObjectKind.KEY)
        dev.vaults.ensure(vault)
        print_created(dev.vault_keys.put(vault, name, uuid4().hex, document))


@key.command("import")
@click.argument("vault")
@click.argument("name")
@click.argument("file")
@data_option
def import_(vault: str, name: str, file: str, data: Path) -> None:
    """Import the private key in FILE (PEM; - is stdin) as a new version of key NAME."""
    from keyferry_devvault.crypto.key_material import key_kind, key_pem, parse_key

    parsed = parse_key(read_secret_text(f"key {name}", file).encode())
    document = {"pem": key_pem(parsed), "kty": key_kind(parsed)}
    with create_data(data) as dev, grant_access_if_created(dev, vault):
        check_object_name(name, ObjectKind.KEY)
        dev.vaults.ensure(vault)
        print_created(dev.vault_keys.put(vault, name, uuid4().hex, document))


@key.command("get")
@click.argument("vault")
@click.argument("name")
@click.option("--version", metavar="ID", help="This version instead of the latest.")
@data_option
def get(vault: str, name: str, version: str | None, data: Path) -> None:
    """Print the public key of key NAME as PEM."""
    from keyferry_devvault.crypto.key_material import parse_key, public_pem

    with open_data(data) as dev:
        row = dev.vault_keys.get(vault, name, version)
    click.echo(public_pem(parse_key(row.document["pem"].encode())), nl=False)


add_common_commands(key, ObjectKind.KEY)
