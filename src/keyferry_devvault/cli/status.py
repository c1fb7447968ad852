"""`keyferry devvault status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from keyferry.cli.commands import command
from keyferry.cli.output import OutputFormat, counted, output_option, print_document
from keyferry.errors import PlatformError, Stage
from keyferry_devvault.cli.faults import FaultInjection, fault_injection, print_fault_injection
from keyferry_devvault.cli.options import data_option, hints_for, open_data
from keyferry_devvault.folder import BoundAddresses, format_address, is_running, read_connection
from keyferry_devvault.storage.data import DevVaultData, has_data

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry_devvault.command_hints import CommandHints

_STATUS_TIMEOUT_SECONDS = 2.0


class _VaultStatus(msgspec.Struct, rename="camel"):
    """A vault with the numbers of its objects and policies."""

    name: str
    tenant: str
    secrets: int
    keys: int
    certificates: int
    policies: int

    def summary(self) -> str:
        """Return its line in a table."""
        counts = [counted(self.secrets, "secret")]
        if self.keys:
            counts.append(counted(self.keys, "key"))
        if self.certificates:
            counts.append(counted(self.certificates, "certificate"))
        counts.append(counted(self.policies, "policy", "policies"))
        return f"vault {self.name}: {', '.join(counts)}, tenant {self.tenant}"


class _Status(msgspec.Struct, rename="camel"):
    """What `status` shows; without data, `fault_injection` is None."""

    running: bool
    data: str
    https: str | None
    http: str | None
    requests: dict[str, int]
    vaults: list[_VaultStatus] = []
    identities: int = 0
    fault_injection: FaultInjection | None = None


def _status(folder: Path) -> _Status:
    addresses = _addresses(folder)
    shown = _Status(
        running=addresses is not None,
        data=str(folder),
        https=format_address(addresses.https) if addresses else None,
        http=format_address(addresses.http) if addresses else None,
        requests=_request_counts(format_address(addresses.http)) if addresses else {},
    )
    if has_data(folder):
        with open_data(folder) as dev:
            shown.vaults = [_vault_status(dev, vault) for vault in dev.vaults.names()]
            shown.identities = len(dev.identities.all())
            shown.fault_injection = fault_injection(dev)
    return shown


def _addresses(folder: Path) -> BoundAddresses | None:
    """Return where the development vault listens; None if it is not running."""
    if not is_running(folder):
        return None
    try:
        return read_connection(folder)[0]
    except FileNotFoundError:  # it is starting or stopping
        return None


def _vault_status(dev: DevVaultData, vault: str) -> _VaultStatus:
    return _VaultStatus(
        name=vault,
        tenant=dev.policies.tenant(vault) or "",
        secrets=len(dev.secrets.latest(vault)),
        keys=len(dev.vault_keys.latest(vault)),
        certificates=len(dev.certificate_table.latest(vault)),
        policies=len(dev.policies.of_vault(vault)),
    )


def _print_status(shown: _Status, hints: CommandHints) -> None:
    if shown.running:
        click.echo(f"Running, data in {shown.data}: https {shown.https}, http {shown.http}")
    else:
        where = "data in" if shown.fault_injection else "no data in"
        click.echo(f"Not running, {where} {shown.data}; start it with: {hints.line('run')}")
    for vault in shown.vaults:
        click.echo(vault.summary())
    if shown.fault_injection:
        click.echo(f"identities: {shown.identities}")
        print_fault_injection(shown.fault_injection)
    for kind, count in sorted(shown.requests.items()):
        click.echo(f"requests: {count:6} {kind}")


@command()
@output_option
@data_option
def status(output: OutputFormat, data: Path) -> None:
    """Show addresses, contents, settings, faults and request counts."""
    shown = _status(data)
    if output is OutputFormat.TABLE:
        _print_status(shown, hints_for(data))
    else:
        print_document(msgspec.to_builtins(shown), output)


def _request_counts(http: str) -> dict[str, int]:
    from urllib.request import urlopen

    try:
        with urlopen(
            f"http://{http}/devvault/requests", timeout=_STATUS_TIMEOUT_SECONDS
        ) as response:
            return msgspec.json.decode(response.read(), type=dict[str, int])
    except (OSError, msgspec.DecodeError) as error:
        raise PlatformError(
            f"the development vault does not respond on http://{http}: {error}",
            "It may be starting or stopping. Run the command again.",
            stage=Stage.REQUEST,
        ) from error
