"""`keyferry devvault cert`: commands for certificates, their keys and their secrets."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from keyferry.errors import RequestInvalidError
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

_CONTENT_TYPES = {"pem": "application/x-pem-file", "pkcs12": "application/x-pkcs12"}


@click.group(cls=CommandGroup)
def cert() -> None:
    """Create, import and manage certificates.

    Each certificate has a key and a secret with the same name and version.
    """


@cert.command()
@click.argument("vault")
@click.argument("name")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="DNS name; may be repeated.")
@click.option("--kty", "kind", default="RSA", show_default=True, help="RSA or EC.")
@click.option("--size", default=2048, show_default=True, help="Bits of an RSA key.")
@click.option("--curve", default="P-256", show_default=True, help="P-256, P-384, P-521 or P-256K.")
@click.option(
    "--form",
    type=click.Choice(list(_CONTENT_TYPES)),
    default="pkcs12",
    show_default=True,
    help="Format of its secret.",
)
@click.option("--ca", is_flag=True, help="Sign it with the development CA instead of its own key.")
@data_option
def create(
    *,
    vault: str,
    name: str,
    hosts: tuple[str, ...],
    kind: str,
    size: int,
    curve: str,
    form: str,
    ca: bool,
    data: Path,
) -> None:
    """Create a new version of certificate NAME, and VAULT if it does not exist."""
    from keyferry_devvault.storage.certificates import CertificateSpec

    spec = CertificateSpec(
        hosts=hosts,
        kind=kind,
        size=size,
        curve=curve,
        content_type=_CONTENT_TYPES[form],
        signed_by_ca=ca,
    )
    with create_data(data) as dev, grant_access_if_created(dev, vault):
        print_created(dev.certificates.create(vault, name, spec))


@cert.command("import")
@click.argument("vault")
@click.argument("name")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--password-file", metavar="FILE", help="File with the password of a PKCS#12 file; - is stdin."
)
@click.option(
    "--form",
    type=click.Choice(list(_CONTENT_TYPES)),
    help="Format of its secret; the default is the format of FILE.",
)
@data_option
def import_(
    *, vault: str, name: str, file: Path, password_file: str | None, form: str | None, data: Path
) -> None:
    """Import FILE (PEM or PKCS#12 with the private key) as a new version of certificate NAME."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RequestInvalidError(
            f"{file} cannot be read: {error.strerror}", "Pass a file that you can read."
        ) from error
    password = None
    if password_file is not None:
        password = read_secret_text(f"password of {file}", password_file).rstrip("\n")
    with create_data(data) as dev, grant_access_if_created(dev, vault):
        chosen = _CONTENT_TYPES[form] if form else None
        store = dev.certificates
        print_created(store.import_(vault, name, content, password=password, content_type=chosen))


@cert.command("get")
@click.argument("vault")
@click.argument("name")
@click.option("--version", metavar="ID", help="This version instead of the latest.")
@data_option
def get(vault: str, name: str, version: str | None, data: Path) -> None:
    """Print certificate NAME as PEM, without chain and key."""
    from keyferry_devvault.crypto.certificate_material import certificate_pem

    with open_data(data) as dev:
        row = dev.certificate_table.get(vault, name, version)
    click.echo(certificate_pem(base64.b64decode(row.document["cer"])), nl=False)


add_common_commands(cert, ObjectKind.CERTIFICATE)
