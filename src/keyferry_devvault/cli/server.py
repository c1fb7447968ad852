"""`keyferry devvault`: run a development vault, and work on its data whether it runs or not."""

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
    """A pretend Azure Key Vault for laptops and CI, on loopback only.

    Start it with `run`; every other command works on its data whether it runs or not.
    """


@devvault.command()
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, help="ADDRESS:PORT; port 0 is a free one."
)
@click.option("--quiet", is_flag=True, help="No access log on stderr.")
@data_option
def run(listen: str, quiet: bool, data: Path) -> None:
    """Serve the vaults, the token endpoint of Entra (TLS), and IMDS (plain) until Ctrl-C."""
    address = _parse_listen_address(listen)
    with DevVaultData(data) as dev:
        dev.identities.ensure_system_assigned()
        asyncio.run(_serve(dev, address, quiet=quiet))


@devvault.command()
@click.option("--latency", metavar="DURATION", help="Add this to each answer of a vault: 20ms.")
@click.option(
    "--throttle", metavar="RATE", help="Answer 429 beyond this rate per vault: 10/s, or off."
)
@click.option("--retry-after", metavar="DURATION", help="What a 429 asks for: 2s.")
@click.option("--token-lifetime", metavar="DURATION", help="How long access tokens are good: 5m.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="'MATCH ACTION [xN]'",
    help="Add a fault: 'contoso.vault.azure.net/secrets 429 retry-after=2 x3', 'HOST close x1',"
    " '/PATH hang'.",
)
@click.option("--clear", is_flag=True, help="First forget all tuning and all faults.")
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
    """Make the vault slow, strict or faulty, also while it runs; then show how it behaves."""
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
    """Show where it listens, what it holds, how it behaves, and what was asked of it."""
    redirect = DevRedirect.read(data) if is_running(data) else None
    if redirect is None:
        click.echo(f"Not running, data in {data}; start it with: keyferry devvault run")
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
        for what, count in sorted(_request_counts(format_address(redirect.http)).items()):
            click.echo(f"requests: {count:6} {what}")


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
    # The web server is imported by the one command that serves.
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
    click.echo("The development vault has stopped; its data stays.")


def _print_addresses(folder: Path, addresses: BoundAddresses) -> None:
    click.echo("The development vault listens (Ctrl-C ends it):")
    click.echo(f"  vaults and Entra  https://{format_address(addresses.https)}")
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
        with urlopen(f"http://{http}/devvault/requests", timeout=_STATUS_TIMEOUT_SECONDS) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, int])
    except (OSError, msgspec.DecodeError) as error:
        raise RequestInvalidError(
            f"the development vault does not answer on http://{http}: {error}",
            "It may just be starting or stopping; ask again.",
        ) from error


def _parse_listen_address(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535):
        raise RequestInvalidError(f"{listen!r} is not ADDRESS:PORT", "Write 127.0.0.1:8443.")
    return address.strip("[]"), int(port)
