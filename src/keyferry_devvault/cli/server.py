"""`keyferry devvault`: runs the emulator, and reads and changes its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from keyferry.errors import RequestInvalidError
from keyferry_devvault.cli.access import identity, issuer, policy, token
from keyferry_devvault.cli.certs import cert
from keyferry_devvault.cli.examples import add_examples
from keyferry_devvault.cli.faults import tune
from keyferry_devvault.cli.keys import key
from keyferry_devvault.cli.options import CommandGroup, create_data, data_option
from keyferry_devvault.cli.secrets import (
    delete_secret,
    disable_secret,
    enable_secret,
    get_secret,
    list_secrets,
    set_secret,
)
from keyferry_devvault.cli.status import status
from keyferry_devvault.folder import BoundAddresses, format_address

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry_devvault.storage.data import DevVaultData


@click.group(cls=CommandGroup)
def devvault() -> None:
    """Emulate Azure Key Vault for laptops and CI, on loopback only.

    `run` starts the emulator. The other commands work on its data, whether it is running or not.
    """


@devvault.command()
@click.option(
    "--listen",
    default="127.0.0.1:0",
    show_default=True,
    help="ADDRESS:PORT of the TLS port; port 0 selects a free port.",
)
@click.option("--quiet", is_flag=True, help="Write no access log to stderr.")
@data_option
def run(listen: str, quiet: bool, data: Path) -> None:
    """Serve vaults, the token endpoint of Entra ID (TLS) and IMDS (plain HTTP) until Ctrl-C."""
    import asyncio

    address = _parse_listen_address(listen)
    with create_data(data) as dev:
        dev.identities.ensure_system_assigned()
        asyncio.run(_serve(dev, address, quiet=quiet))


for _command in (
    set_secret,
    get_secret,
    list_secrets,
    disable_secret,
    enable_secret,
    delete_secret,
    key,
    cert,
    policy,
    identity,
    issuer,
    token,
    tune,
    status,
):
    devvault.add_command(_command)
add_examples(devvault)


async def _serve(dev: DevVaultData, address: tuple[str, int], *, quiet: bool) -> None:
    # Only this command needs an event loop and the web server.
    import asyncio
    import signal

    from keyferry_devvault.request_log import RequestLog, RequestRecord
    from keyferry_devvault.server import serve

    def echo(record: RequestRecord) -> None:
        click.echo(record.format_line(), err=True)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(
        dev, request_log=RequestLog(None if quiet else echo), listen=address
    ) as listening:
        _print_addresses(dev.folder, listening)
        await stop.wait()
    click.echo(f"The development vault has stopped. Its data is kept in {dev.folder}.")


def _print_addresses(folder: Path, addresses: BoundAddresses) -> None:
    click.echo("The development vault listens (Ctrl-C stops it):")
    click.echo(f"  vaults, Entra ID  https://{format_address(addresses.https)}")
    click.echo(f"  IMDS              http://{format_address(addresses.http)}")
    click.echo(f"  data and CA       {folder}")
    click.echo("Next, in another shell:")
    click.echo(f"  keyferry devvault set contoso db-password --data {folder}")
    click.echo(f"  keyferry mount CLASS.yaml ./secrets --dev-vault {folder}")
    click.echo(f"  keyferry devvault status --data {folder}")


def _parse_listen_address(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535):
        raise RequestInvalidError(f"{listen!r} is not ADDRESS:PORT", "Write 127.0.0.1:8443.")
    return address.strip("[]"), int(port)
