"""`keyferry devvault tune`: latency, throttling and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from keyferry.cli.commands import command
from keyferry.cli.output import OutputFormat, output_option, print_document
from keyferry.records import replace
from keyferry_devvault.cli.options import create_data, data_option
from keyferry_devvault.model import Tuning
from keyferry_devvault.parsing import (
    format_fault,
    format_tuning,
    parse_duration,
    parse_fault,
    parse_rate,
)

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry_devvault.storage.data import DevVaultData


class FaultInjection(msgspec.Struct, rename="camel"):
    """What `tune` sets. Times are in seconds."""

    latency: float
    throttle: int | None
    retry_after: int
    token_lifetime: int
    faults: list[str]


@command()
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
@output_option
@data_option
def tune(
    *,
    latency: str | None,
    throttle: str | None,
    retry_after: str | None,
    token_lifetime: str | None,
    faults: tuple[str, ...],
    clear: bool,
    output: OutputFormat,
    data: Path,
) -> None:
    """Set latency, throttling and token lifetime, and inject faults, also while it runs."""
    added = [parse_fault(text) for text in faults]
    with create_data(data) as dev:
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
        shown = fault_injection(dev)
    if output is OutputFormat.TABLE:
        print_fault_injection(shown)
    else:
        print_document(msgspec.to_builtins(shown), output)


def fault_injection(dev: DevVaultData) -> FaultInjection:
    """Return the current settings and faults."""
    tuning = dev.fault_injection.tuning()
    return FaultInjection(
        latency=tuning.latency,
        throttle=tuning.throttle,
        retry_after=tuning.retry_after,
        token_lifetime=tuning.token_lifetime,
        faults=[format_fault(fault) for fault in dev.fault_injection.faults()],
    )


def print_fault_injection(shown: FaultInjection) -> None:
    """Print settings and faults as text."""
    tuning = Tuning(shown.latency, shown.throttle, shown.retry_after, shown.token_lifetime)
    click.echo(f"behaviour: {format_tuning(tuning)}")
    for fault in shown.faults:
        click.echo(f"fault: {fault}")
