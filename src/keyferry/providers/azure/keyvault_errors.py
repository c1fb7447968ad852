"""Translates error responses of Key Vault into errors with a remedy. [pure]"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import AccessDeniedError, KeyferryError, ObjectNotFoundError, VaultError
from keyferry.providers.azure.auth.identity import Identity, identity_name, profile
from keyferry.providers.azure.objects import ObjectRef, ObjectType

if TYPE_CHECKING:
    from pathlib import Path

    from keyferry.net.http_responses import ErrorResponse


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The facts about a request to a vault that its error messages name.

    Attributes:
        vault: the name of the vault.
        tenant: the tenant of the SecretProviderClass.
        authority: the https URL of the token endpoint that issued the token.
        identity: the identity that sent the request.
    """

    vault: str
    tenant: str
    authority: str
    identity: Identity


def emulator_remedy(error: KeyferryError, *, vault: str, data_folder: Path) -> str:
    """Return the remedy of `error` with the commands of the development vault.

    Args:
        error: any error of a mount; a remedy without an `az` command is returned unchanged.
        vault: the name of the vault.
        data_folder: the data directory of the development vault.
    """
    if re.search(r"\baz [a-z]", error.remedy) is None:
        return error.remedy
    data = f"--data {shlex.quote(str(data_folder))}"
    match error:
        case ObjectNotFoundError():
            return (
                f"List what exists: keyferry devvault list {vault} {data}; enable a disabled "
                f"secret with: keyferry devvault enable {vault} NAME {data}"
            )
        case AccessDeniedError():
            return (
                f"Check tenantID and permissions: keyferry devvault identity list {data}; grant a "
                f"permission with: keyferry devvault policy {vault} CLIENT_ID --allow get {data}"
            )
        case _:
            # These remedies have facts of their own, such as the claims of a token.
            return (
                f"{error.remedy.rstrip('.')}. In the development vault, use instead of az: "
                f"keyferry devvault identity list {data}"
            )


def error_for_response(
    response: ErrorResponse, ref: ObjectRef, context: RequestContext
) -> VaultError:
    """Return the error for a response that is neither a success nor retryable.

    1. 401: the vault rejects the token.
    2. 403: disabled object, blocked network, or missing permission, by the inner error code.
    3. 404: the vault or the object does not exist.
    4. Any other status.
    """
    match response.status:
        case 401:
            return _unauthorized(response, context)
        case 403:
            return _forbidden(response, ref, context)
        case 404:
            return _not_found(response, ref, context)
        case status:
            codes = f" ({', '.join(response.codes)})" if response.codes else ""
            return VaultError(
                f"vault {context.vault} responds with status {status}{codes}",
                "Check objectName and objectVersion in the SecretProviderClass, and that no proxy "
                "responds in place of the vault.",
            )


def _unauthorized(response: ErrorResponse, context: RequestContext) -> AccessDeniedError:
    match = re.search(
        r'authorization(?:_uri)?="?(https://[A-Za-z0-9./:_-]{1,200})', response.challenge
    )
    trusted = match[1] if match else "an authority that it does not name"
    return AccessDeniedError(
        f"vault {context.vault} does not accept the token (401): it trusts {trusted}, but the "
        f"token comes from {context.authority}/{context.tenant}",
        "Set tenantID and cloudName in the SecretProviderClass to those of the vault: "
        f"az keyvault show --name {context.vault} --query properties.tenantId",
    )


def _forbidden(response: ErrorResponse, ref: ObjectRef, context: RequestContext) -> VaultError:
    inner = response.codes[-1] if response.codes else ""
    if inner.endswith("Disabled"):
        return ObjectNotFoundError(
            f"{ref} is disabled in vault {context.vault}",
            f"Enable it: az keyvault {_NOUNS[ref.type]} set-attributes --vault-name "
            f"{context.vault} --name {ref.name} --enabled true",
        )
    if inner in ("ForbiddenByFirewall", "ForbiddenByConnection"):
        return AccessDeniedError(
            f"vault {context.vault} refuses connections from here ({inner})",
            f"Allow this network: az keyvault network-rule add --name {context.vault} "
            "--ip-address ADDRESS, or use a private endpoint.",
        )
    return AccessDeniedError(
        f"vault {context.vault} does not let {identity_name(context.identity)} read {ref} (403)",
        _grant_remedy(ref, context),
    )


_NOUNS = {ObjectType.SECRET: "secret", ObjectType.KEY: "key", ObjectType.CERT: "certificate"}
"""The names of the types in az commands and access policies."""
_ROLES = {
    ObjectType.SECRET: "Key Vault Secrets User",
    ObjectType.KEY: "Key Vault Crypto User",
    ObjectType.CERT: "Key Vault Certificate User",
}


def _grant_remedy(ref: ObjectRef, context: RequestContext) -> str:
    about = profile(context.identity)
    option = "--spn" if about.client_id else "--object-id"
    return (
        f'Assign a role: az role assignment create --role "{_ROLES[ref.type]}" --assignee '
        f"{about.assignee} --scope $(az keyvault show --name {context.vault} --query id "
        "--output tsv); with access policies instead of RBAC: az keyvault set-policy --name "
        f"{context.vault} {option} {about.assignee} --{_NOUNS[ref.type]}-permissions get. "
        "It takes effect after some minutes."
    )


def _not_found(
    response: ErrorResponse, ref: ObjectRef, context: RequestContext
) -> ObjectNotFoundError:
    if "VaultNotFound" in response.codes:
        return ObjectNotFoundError(
            f"there is no vault {context.vault}", "Check keyvaultName in the SecretProviderClass."
        )
    where = f"--vault-name {context.vault}"
    command = f"az keyvault {_NOUNS[ref.type]} list {where}"
    if ref.version:
        command = (
            f"az keyvault {_NOUNS[ref.type]} list-versions {where} --name {ref.name}; "
            "leave objectVersion empty for the current version"
        )
    return ObjectNotFoundError(
        f"{ref} does not exist in vault {context.vault}",
        f"List what exists: {command}",
    )
