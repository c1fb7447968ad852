"""`keyferry devvault`: runs the emulator, and reads and changes its data."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.request import urlopen

import click
import msgspec

from keyferry.errors import RequestInvalidError
from keyferry_devvault.cli.access import identity, issuer, policy, token
from keyferry_devvault.cli.certs import cert
from keyferry_devvault.cli.keys import key
from keyferry_devvault.cli.options import CommandGroup, data_option
from keyferry_devvault.cli.secrets import (
    delete_secret,
    disable_secret,
    enable_secret,
    get_secret,
    list_secrets,
    set_secret,
)
from keyferry_devvault.client import DevRedirect
from keyferry_devvault.folder import BoundAddresses, format_address, is_running
from keyferry_devvault.model import Tuning
from keyferry_devvault.parsing import (
    format_fault,
    format_tuning,
    parse_duration,
    parse_fault,
    parse_rate,
)
from keyferry_devvault.storage.data import DevVaultData

if TYPE_CHECKING:
    from pathlib import Path

_STATUS_TIMEOUT_SECONDS = 2.0


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
    address = _parse_listen_address(listen)
    with DevVaultData(data) as dev:
        dev.identities.ensure_system_assigned()
        asyncio.run(_serve(dev, address, quiet=quiet))


@devvault.command()
@click.option("--latency", metavar="DURATION", help="Delay of each response of a vault: 20ms.")
@click.option(
    "--throttle",
    metavar="RATE",
    help="Respond with status 429 above this rate per vault: 10/s, or off.",
)
@click.option(
    "--retry-after", metavar="DURATION", help="Retry-After of responses with status 429: 2s."
)
@click.option("--token-lifetime", metavar="DURATION", help="Lifetime of access tokens: 5m.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="'MATCH ACTION [xN]'",
    help="Inject a fault: 'contoso.vault.azure.net/secrets 429 retry-after=2 x3', 'HOST close x1',"
    " '/PATH hang'.",
)
@click.option("--clear", is_flag=True, help="First reset all settings and remove all faults.")
@data_option
def tune(
    *,
    latency: str | None,
    throttle: str | None,
    retry_after: str | None,
    token_lifetime: str | None,
    faults: tuple[str, ...],
    clear: bool,
    data: Path,
) -> None:
    """Set latency, throttling and token lifetime, and inject faults, also while it runs."""
    added = [parse_fault(text) for text in faults]
    with DevVaultData(data) as dev:
        tuning = Tuning() if clear else dev.fault_injection.tuning()
        if latency is not None:
            tuning = replace(tuning, latency=parse_duration(latency))
        if throttle is not None:
            tuning = replace(tuning, throttle=parse_rate(throttle))
        if retry_after is not None:
            tuning = replace(tuning, retry_after=int(parse_duration(retry_after)))
        if token_lifetime is not None:
            tuning = replace(tuning, token_lifetime=int(parse_duration(token_lifetime)))
        if clear:
            dev.fault_injection.clear()
        dev.fault_injection.tune(tuning)
        for fault in added:
            dev.fault_injection.add_fault(fault)
        _print_fault_injection(dev)


@devvault.command()
@data_option
def status(data: Path) -> None:
    """Show addresses, contents, settings, faults and request counts."""
    redirect = DevRedirect.read(data) if is_running(data) else None
    if redirect is None:
        click.echo(
            f"Not running, data in {data}; start it with: keyferry devvault run --data {data}"
        )
    else:
        https, http = format_address(redirect.https), format_address(redirect.http)
        click.echo(f"Running, data in {data}: https {https}, http {http}")
    with DevVaultData(data) as dev:
        for vault in dev.secrets.vaults():
            secrets, policies = dev.secrets.latest(vault), dev.policies.of_vault(vault)
            click.echo(f"vault {vault}: {len(secrets)} secrets, {len(policies)} policies")
        click.echo(f"identities: {len(dev.identities.all())}")
        _print_fault_injection(dev)
    if redirect is not None:
        for kind, count in sorted(_request_counts(format_address(redirect.http)).items()):
            click.echo(f"requests: {count:6} {kind}")


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
):
    devvault.add_command(_command)


async def _serve(dev: DevVaultData, address: tuple[str, int], *, quiet: bool) -> None:
    # Only this command needs the web server.
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


def _print_fault_injection(dev: DevVaultData) -> None:
    click.echo(f"behaviour: {format_tuning(dev.fault_injection.tuning())}")
    for fault in dev.fault_injection.faults():
        click.echo(f"fault: {format_fault(fault)}")


def _request_counts(http: str) -> dict[str, int]:
    try:
        with urlopen(
            f"http://{http}/devvault/requests", timeout=_STATUS_TIMEOUT_SECONDS
        ) as response:
            return msgspec.json.decode(response.read(), type=dict[str, int])
    except (OSError, msgspec.DecodeError) as error:
        raise RequestInvalidError(
            f"the development vault does not respond on http://{http}: {error}",
            "It may be starting or stopping. Run the command again.",
        ) from error


def _parse_listen_address(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535):
        raise RequestInvalidError(f"{listen!r} is not ADDRESS:PORT", "Write 127.0.0.1:8443.")
    return address.strip("[]"), int(port)
