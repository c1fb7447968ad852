"""Commands of `keyferry devvault` for secrets."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import command
from keyferry.cli.failures import HintedUsageError
from keyferry.cli.output import (
    OutputFormat,
    output_option,
    print_details,
    print_document,
    print_list,
)
from keyferry.errors import RequestInvalidError
from keyferry_devvault.cli.options import (
    create_data,
    data_option,
    format_time,
    open_data,
    read_secret_text,
)
from keyferry_devvault.model import Permission, SecretAttributes, SecretVersion
from keyferry_devvault.parsing import parse_duration

if TYPE_CHECKING:
    from pathlib import Path


class _WithoutValues(click.Argument):
    """Refuses a value on the command line, and does not repeat it as click would."""

    def make_metavar(self, ctx: click.Context) -> str:
        """Return no placeholder for the usage line."""
        del ctx
        return ""

    def process_value(self, ctx: click.Context, value: object) -> tuple[str, ...]:
        """Refuse any value."""
        del ctx
        if isinstance(value, (list, tuple)) and value:  # else it is click's mark of a missing one
            raise HintedUsageError(
                "the value is not taken as an argument, which other processes can read",
                "Leave it out: a prompt asks for it. Or pass it on stdin, or with --value-file.",
            )
        return ()


@command("set")
@click.argument("vault")
@click.argument("name")
@click.argument("values", nargs=-1, cls=_WithoutValues, expose_value=False)
@click.option(
    "--value-file", metavar="FILE", help="Read the value from FILE, unmodified; - is stdin."
)
@click.option("--content-type", metavar="TYPE", help="For example text/plain.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option("--disabled", is_flag=True, help="Store the version disabled.")
@click.option(
    "--expires",
    metavar="WHEN",
    help="Expiry: a duration such as 7d, or a time such as 2030-01-31T00:00:00Z.",
)
@data_option
def set_secret(
    *,
    vault: str,
    name: str,
    value_file: str | None,
    content_type: str | None,
    tags: tuple[str, ...],
    disabled: bool,
    expires: str | None,
    data: Path,
) -> None:
    """Set a new version of secret NAME, and create VAULT if it does not exist.

    The value is read from a hidden prompt, from stdin (without one line end) or from a file. The
    system-assigned identity of this machine may get and list secrets of a new vault.
    """
    attributes = SecretAttributes(
        enabled=not disabled,
        expires=None if expires is None else _parse_time(expires),
        content_type=content_type,
        tags=_parse_tags(tags) if tags else None,
    )
    value = read_secret_text(f"value of {name}", value_file)
    with create_data(data) as dev:
        is_new = not dev.vaults.contains(vault)
        row = dev.secrets.set(vault, name, value, attributes)
        click.echo(f"Set secret {row.name} of vault {row.vault}, version {row.version}.")
        if is_new:
            machine = dev.identities.ensure_system_assigned()
            dev.policies.set_permissions(
                vault, machine.client_id, [Permission.GET, Permission.LIST]
            )
            click.echo(
                f"Created vault {row.vault}: the system-assigned identity of this machine may"
                " get and list."
            )


@command("get")
@click.argument("vault")
@click.argument("name")
@click.option("--version", metavar="ID", help="This version instead of the latest.")
@click.option("--show-value", is_flag=True, help="Print only the value; with -o, add it.")
@output_option
@data_option
def get_secret(
    *,
    vault: str,
    name: str,
    version: str | None,
    show_value: bool,
    output: OutputFormat,
    data: Path,
) -> None:
    """Show a version of secret NAME; its value only with --show-value."""
    with open_data(data) as dev:
        row = dev.secrets.get(vault, name, version)
    if output is not OutputFormat.TABLE:
        print_document(_details(row) | ({"value": row.value} if show_value else {}), output)
    elif show_value:
        click.echo(row.value)
    else:
        print_details(_details(row) | {"value": "******** (--show-value prints it)"}, output)


@command("list")
@click.argument("vault")
@click.argument("name", required=False)
@output_option
@data_option
def list_secrets(vault: str, name: str | None, output: OutputFormat, data: Path) -> None:
    """List the secrets of VAULT, or the versions of one secret, oldest first."""
    with open_data(data) as dev:
        dev.vaults.require(vault)
        if name is not None:
            dev.secrets.get(vault, name)
        rows = dev.secrets.versions(vault, name) if name else dev.secrets.latest(vault)
    print_list(
        [_details(row) for row in rows],
        {
            "NAME": "name",
            "VERSION": "version",
            "ENABLED": "enabled",
            "CREATED": "created",
            "EXPIRES": "expires",
        },
        output,
        empty=f"no secrets in vault {vault}",
    )


@command("disable")
@click.argument("vault")
@click.argument("name")
@click.option("--version", metavar="ID", help="This version instead of the latest.")
@data_option
def disable_secret(vault: str, name: str, version: str | None, data: Path) -> None:
    """Disable a version of secret NAME, so that it cannot be read."""
    _set_enabled(data, vault, name, version, enabled=False)


@command("enable")
@click.argument("vault")
@click.argument("name")
@click.option("--version", metavar="ID", help="This version instead of the latest.")
@data_option
def enable_secret(vault: str, name: str, version: str | None, data: Path) -> None:
    """Enable a version of secret NAME."""
    _set_enabled(data, vault, name, version, enabled=True)


@command("delete")
@click.argument("vault")
@click.argument("name")
@click.option(
    "--purge", is_flag=True, help="Delete it permanently, so that its name can be used again."
)
@click.option("--recover", is_flag=True, help="Undo the deletion.")
@data_option
def delete_secret(
    *,
    vault: str,
    name: str,
    purge: bool,
    recover: bool,
    data: Path,
) -> None:
    """Delete secret NAME with all its versions; it can be recovered, as in Key Vault."""
    if purge and recover:
        raise RequestInvalidError("--purge and --recover exclude each other", "Pass one of them.")
    with open_data(data) as dev:
        dev.vaults.require(vault)
        deleted = dev.secrets.find_deleted(vault, name)
        if recover:
            if deleted is None:
                raise RequestInvalidError(
                    f"vault {vault!r} has no deleted secret {name!r}",
                    f"List the secrets: {dev.hints.line('list', vault)}",
                )
            dev.secrets.recover(vault, name)
            click.echo(f"Recovered secret {name} of vault {vault}.")
            return
        if not (deleted and purge):
            dev.secrets.delete(vault, name)
        if purge:
            dev.secrets.purge(vault, name)
            click.echo(f"Purged secret {name} of vault {vault}.")
        else:
            command = dev.hints.line("delete", vault, name, "--recover")
            click.echo(f"Deleted secret {name} of vault {vault}. Recover it with: {command}")


def _set_enabled(data: Path, vault: str, name: str, version: str | None, *, enabled: bool) -> None:
    with open_data(data) as dev:
        row = dev.secrets.update(vault, name, version, SecretAttributes(enabled=enabled))
    state = "Enabled" if enabled else "Disabled"
    click.echo(f"{state} secret {row.name} of vault {row.vault}, version {row.version}.")


def _details(row: SecretVersion) -> dict[str, object]:
    """Return what is shown of a version: all but its value."""
    return {
        "vault": row.vault,
        "name": row.name,
        "version": row.version,
        "enabled": row.enabled,
        "created": format_time(row.created),
        "updated": format_time(row.updated),
        "expires": None if row.expires is None else format_time(row.expires),
        "notBefore": None if row.not_before is None else format_time(row.not_before),
        "contentType": row.content_type,
        "tags": dict(sorted((row.tags or {}).items())),
    }


def _parse_tags(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise RequestInvalidError(f"the tag {key!r} has no value", "Write --tag KEY=VALUE.")
    return {key: value for key, _, value in pairs}


def _parse_time(text: str) -> int:
    """Return the Unix time of an ISO 8601 time, or of a duration from now."""
    if re.fullmatch(r"\d.*(?:ms|s|m|h|d)", text):
        return int(datetime.now(UTC).timestamp() + parse_duration(text))
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise RequestInvalidError(
            f"{text!r} is not a time",
            "Write a duration such as 7d, or a time such as 2030-01-31T00:00:00Z.",
        ) from error
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
