"""Commands of `keyferry devvault` for identities, access policies, issuers and tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from keyferry.cli.commands import command
from keyferry.cli.output import OutputFormat, output_option, print_list
from keyferry.errors import RequestInvalidError
from keyferry_devvault.cli.options import (
    CommandGroup,
    create_data,
    data_option,
    open_data,
    read_secret_text,
)
from keyferry_devvault.model import (
    CLUSTER_ISSUER,
    EXCHANGE_AUDIENCE,
    FederatedCredential,
    Permission,
)
from keyferry_devvault.parsing import parse_duration, parse_subject
from keyferry_devvault.storage.credentials import PodAssignment

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry_devvault.model import Identity
    from keyferry_devvault.storage.data import DevVaultData

_READ_PERMISSIONS = (Permission.GET, Permission.LIST)

_tenant_option = click.option(
    "--tenant", help="tenantID of the SecretProviderClass; the first tenant added is the default."
)
_vault_option = click.option(
    "--vault",
    "vaults",
    multiple=True,
    metavar="VAULT",
    help="Permit it to get and list secrets of VAULT; may be repeated.",
)


@click.group(cls=CommandGroup)
def identity() -> None:
    """Add and list apps and managed identities."""


@identity.command("add-app")
@click.argument("client_id")
@_tenant_option
@_vault_option
@click.option("--secret-file", metavar="FILE", help="Read the client secret from FILE; - is stdin.")
@click.option("--no-secret", is_flag=True, help="It authenticates with federated tokens only.")
@click.option("--certificate", metavar="FILE", help="It authenticates with this certificate (PEM).")
@data_option
def add_app(
    *,
    client_id: str,
    tenant: str | None,
    vaults: tuple[str, ...],
    secret_file: str | None,
    no_secret: bool,
    certificate: str | None,
    data: Path,
) -> None:
    """Register an app. A hidden prompt, stdin or a file supplies its client secret."""
    pem = read_secret_text("certificate", certificate) if certificate else None
    with create_data(data) as dev:
        without = no_secret or pem is not None
        secret = None if without else read_secret_text("client secret", secret_file)
        added = dev.identities.add_app(client_id, tenant=tenant, secret=secret)
        if pem is not None:
            dev.credentials.add_certificate(client_id, pem)
        click.echo(f"Added app {added.client_id} of tenant {added.tenant}.")
        _grant_read(dev, client_id, vaults)


@identity.command("add-managed")
@click.argument("client_id", required=False)
@click.option(
    "--system", is_flag=True, help="Make it the system-assigned identity of this machine."
)
@_tenant_option
@_vault_option
@data_option
def add_managed(
    *,
    client_id: str | None,
    system: bool,
    tenant: str | None,
    vaults: tuple[str, ...],
    data: Path,
) -> None:
    """Assign a managed identity to this machine, as the SecretProviderClass names it."""
    with create_data(data) as dev:
        if client_id is not None:
            added = dev.identities.add_managed(client_id, tenant=tenant, system_assigned=system)
        elif system:
            added = dev.identities.ensure_system_assigned()
        else:
            raise RequestInvalidError("no identity is named", "Pass a CLIENT_ID or --system.")
        click.echo(f"This machine has the {added.kind} identity {added.client_id}.")
        _grant_read(dev, added.client_id, vaults)


@identity.command("federate")
@click.argument("client_id")
@click.option("--subject", required=True, help="system:serviceaccount:NAMESPACE:NAME")
@click.option(
    "--issuer", default=CLUSTER_ISSUER, show_default=True, help="Issuer (iss) of the tokens."
)
@click.option("--audience", default=EXCHANGE_AUDIENCE, show_default=True, help="Audience (aud).")
@data_option
def federate(client_id: str, subject: str, issuer: str, audience: str, data: Path) -> None:
    """Permit a service account to authenticate as an app or a user-assigned identity."""
    if issuer == CLUSTER_ISSUER:
        parse_subject(subject)
    with open_data(data) as dev:
        dev.identities.add_federated_credential(
            FederatedCredential(client_id, issuer, subject, audience)
        )
    click.echo(f"{subject} may authenticate as {client_id}.")


@identity.command("assign-pod")
@click.argument("client_id")
@click.option("-n", "--namespace", required=True, help="Namespace of the pods.")
@click.option("--pod", default="*", show_default=True, help="Name of the pods; * matches any text.")
@data_option
def assign_pod(client_id: str, namespace: str, pod: str, data: Path) -> None:
    """Permit pods to get tokens of a managed identity from NMI (AAD Pod Identity)."""
    with open_data(data) as dev:
        dev.credentials.assign_to_pods(PodAssignment(client_id, namespace, pod))
    click.echo(f"Pods {namespace}/{pod} have the identity {client_id}.")


@identity.command("remove")
@click.argument("client_id")
@data_option
def remove(client_id: str, data: Path) -> None:
    """Remove an identity, its federated credentials and its access policies."""
    with open_data(data) as dev:
        dev.identities.remove(client_id)
    click.echo(f"Removed identity {client_id}.")


@identity.command("list")
@output_option
@data_option
def list_identities(output: OutputFormat, data: Path) -> None:
    """List all identities and their federated credentials."""
    with open_data(data) as dev:
        rows = [_identity_details(dev, row) for row in dev.identities.all()]
        if output is OutputFormat.TABLE:
            for row in rows:
                row["subjects"] = [
                    each.subject
                    for each in dev.identities.federated_credentials(str(row["clientID"]))
                ]
    columns = {"CLIENT ID": "clientID", "KIND": "kind", "TENANT": "tenant"}
    print_list(rows, {**columns, "FEDERATED": "subjects"}, output, empty="no identities")


@command()
@click.argument("vault")
@click.argument("principal", required=False)
@click.option(
    "--allow", metavar="LIST", help="Set the permissions: get,list,set,delete,recover,purge."
)
@click.option("--revoke", is_flag=True, help="Remove all permissions.")
@output_option
@data_option
def policy(
    *,
    vault: str,
    principal: str | None,
    allow: str | None,
    revoke: bool,
    output: OutputFormat,
    data: Path,
) -> None:
    """Show or set the permissions of PRINCIPAL (a client ID, or system) on VAULT."""
    if (allow is not None or revoke) and principal is None:
        raise RequestInvalidError("no principal is named", "Pass a client ID, or the word system.")
    if allow is not None and revoke:
        raise RequestInvalidError("--allow and --revoke exclude each other", "Pass one of them.")
    with open_data(data) as dev:
        dev.vaults.require(vault)
        if principal is not None and (allow is not None or revoke):
            dev.policies.set_permissions(vault, principal, _parse_permissions(allow or ""))
        only = dev.identities.get(principal).client_id if principal else None
        policies = dev.policies.of_vault(vault)
    print_list(
        [
            {
                "vault": vault.lower(),
                "clientID": client_id,
                "permissions": sorted(policies.get(client_id, ())),
            }
            for client_id in ([only] if only else policies)
        ],
        {"VAULT": "vault", "CLIENT ID": "clientID", "PERMISSIONS": "permissions"},
        output,
        empty=f"no policies on vault {vault}",
    )


@click.group(cls=CommandGroup)
def issuer() -> None:
    """Trust the service-account tokens of other clusters."""


@issuer.command("add")
@click.argument("url")
@click.option("--jwks", required=True, metavar="FILE", help="Public keys of the issuer.")
@data_option
def add_issuer(url: str, jwks: str, data: Path) -> None:
    """Trust tokens with issuer URL that are signed with a key of a JWKS file."""
    text = read_secret_text("JWKS", jwks)
    with create_data(data) as dev:
        dev.identities.add_issuer(url, text)
    click.echo(f"Tokens of {url} are trusted.")


@issuer.command("list")
@output_option
@data_option
def list_issuers(output: OutputFormat, data: Path) -> None:
    """List the trusted issuers."""
    with open_data(data) as dev:
        rows = [{"url": url} for url in dev.identities.issuers()]
    print_list(rows, {"URL": "url"}, output, empty="no issuers")


@command()
@click.option("--subject", required=True, help="system:serviceaccount:NAMESPACE:NAME")
@click.option(
    "--audience", "audiences", multiple=True, default=(EXCHANGE_AUDIENCE,), show_default=True
)
@click.option("--lifetime", default="1h", show_default=True, metavar="DURATION")
@click.option(
    "--raw", is_flag=True, help="Print only the token instead of the JSON that kubelet passes."
)
@data_option
def token(
    *,
    subject: str,
    audiences: tuple[str, ...],
    lifetime: str,
    raw: bool,
    data: Path,
) -> None:
    """Issue a service-account token of the emulated cluster, as its API server does for kubelet."""
    from keyferry_devvault.entra.service_account_tokens import (
        kubelet_tokens,
        service_account_token,
    )

    seconds, now = int(parse_duration(lifetime)), time.time()
    if raw and len(audiences) != 1:
        raise RequestInvalidError("--raw prints one token", "Pass one --audience.")
    with create_data(data) as dev:
        if raw:
            (audience,) = audiences
            text = service_account_token(
                dev.signing_keys, subject, audience=audience, now=now, lifetime=seconds
            )
        else:
            text = kubelet_tokens(
                dev.signing_keys, subject, audiences=audiences, now=now, lifetime=seconds
            )
    click.echo(text)


def _identity_details(dev: DevVaultData, row: Identity) -> dict[str, object]:
    return {
        "clientID": row.client_id,
        "kind": row.kind,
        "tenant": row.tenant,
        "federatedCredentials": [
            {"subject": each.subject, "issuer": each.issuer, "audience": each.audience}
            for each in dev.identities.federated_credentials(row.client_id)
        ],
    }


def _grant_read(dev: DevVaultData, client_id: str, vaults: tuple[str, ...]) -> None:
    for vault in vaults:
        dev.vaults.ensure(vault)
        dev.policies.set_permissions(vault, client_id, _READ_PERMISSIONS)
        click.echo(f"{client_id} may get,list on vault {vault}.")


def _parse_permissions(text: str) -> list[Permission]:
    known = {permission.value for permission in Permission}
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            raise RequestInvalidError(
                f"{word!r} is not a permission", f"Choose from: {', '.join(sorted(known))}."
            )
    return [Permission(word) for word in words]
