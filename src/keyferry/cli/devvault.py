"""`keyferry devvault`: run a development vault, and work on its data whether it runs or not."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.request import urlopen

import click
import msgspec

from keyferry.cli.devvault_access import identity, issuer, policy, token
from keyferry.cli.devvault_certs import cert
from keyferry.cli.devvault_keys import key
from keyferry.cli.devvault_options import CommandGroup, data_option
from keyferry.cli.devvault_secrets import (
    delete_secret,
    disable_secret,
    enable_secret,
    get_secret,
    list_secrets,
    set_secret,
)
from keyferry.devvault.data import DevVaultData
from keyferry.devvault.folder import Listening, address_text, is_held
from keyferry.devvault.model import Tuning
from keyferry.devvault.notation import (
    fault_text,
    parse_duration,
    parse_fault,
    parse_rate,
    tuning_text,
)
from keyferry.errors import RequestInvalidError
from keyferry.https import DevRedirect

if TYPE_CHECKING:
    from pathlib import Path

_STATUS_SECONDS = 2.0


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
    address = _address(listen)
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
        tuning = Tuning() if clear else dev.behaviour.tuning()
        if latency is not None:
            tuning = replace(tuning, latency=parse_duration(latency))
        if throttle is not None:
            tuning = replace(tuning, throttle=parse_rate(throttle))
        if retry_after is not None:
            tuning = replace(tuning, retry_after=int(parse_duration(retry_after)))
        if token_lifetime is not None:
            tuning = replace(tuning, token_lifetime=int(parse_duration(token_lifetime)))
        if clear:
            dev.behaviour.clear()
        dev.behaviour.tune(tuning)
        for fault in added:
            dev.behaviour.add_fault(fault)
        _show_behaviour(dev)


@devvault.command()
@data_option
def status(data: Path) -> None:
    """Show where it listens, what it holds, how it behaves, and what was asked of it."""
    redirect = DevRedirect.read(data) if is_held(data) else None
    if redirect is None:
        click.echo(f"Not running, data in {data}; start it with: keyferry devvault run")
    else:
        https, http = address_text(redirect.https), address_text(redirect.http)
        click.echo(f"Running, data in {data}: https {https}, http {http}")
    with DevVaultData(data) as dev:
        for vault in dev.secrets.vaults():
            secrets, policies = dev.secrets.latest(vault), dev.policies.of_vault(vault)
            click.echo(f"vault {vault}: {len(secrets)} secrets, {len(policies)} policies")
        click.echo(f"identities: {len(dev.identities.all())}")
        _show_behaviour(dev)
    if redirect is not None:
        for what, count in sorted(_request_counts(address_text(redirect.http)).items()):
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
    from keyferry.devvault.journal import Journal, RequestRecord
    from keyferry.devvault.server import serve

    def echo(record: RequestRecord) -> None:
        click.echo(record.line(), err=True)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(dev, journal=Journal(None if quiet else echo), listen=address) as listening:
        _greet(dev.folder, listening)
        await stop.wait()
    click.echo("The development vault has stopped; its data stays.")


def _greet(folder: Path, listening: Listening) -> None:
    click.echo("The development vault listens (Ctrl-C ends it):")
    click.echo(f"  vaults and Entra  https://{address_text(listening.https)}")
    click.echo(f"  IMDS              http://{address_text(listening.http)}")
    click.echo(f"  data and CA       {folder}")
    click.echo("Next, in another shell:")
    click.echo(f"  keyferry devvault set contoso db-password --data {folder}")
    click.echo(f"  keyferry mount CLASS.yaml ./secrets --dev-vault {folder}")
    click.echo(f"  keyferry devvault status --data {folder}")


def _show_behaviour(dev: DevVaultData) -> None:
    click.echo(f"behaviour: {tuning_text(dev.behaviour.tuning())}")
    for fault in dev.behaviour.faults():
        click.echo(f"fault: {fault_text(fault)}")


def _request_counts(http: str) -> dict[str, int]:
    try:
        with urlopen(f"http://{http}/devvault/requests", timeout=_STATUS_SECONDS) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, int])
    except (OSError, msgspec.DecodeError) as error:
        raise RequestInvalidError(
            f"the development vault does not answer on http://{http}: {error}",
            "It may just be starting or stopping; ask again.",
        ) from error


def _address(listen: str) -> tuple[str, int]:
    address, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65_535):
        raise RequestInvalidError(f"{listen!r} is not ADDRESS:PORT", "Write 127.0.0.1:8443.")
    return address.strip("[]"), int(port)
