"""What it means when Key Vault says "no", and what to do about it. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.errors import AccessDeniedError, ObjectNotFoundError, VaultError
from keyferry.providers.azure.auth.identity import Identity, identity_name, profile
from keyferry.providers.azure.objects import ObjectRef, ObjectType

if TYPE_CHECKING:
    from keyferry.net.http_responses import ErrorResponse


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asked which vault.

    Attributes:
        vault: its name.
        tenant: what the class says.
        authority: whose tokens were used.
        identity: as whom.
    """

    vault: str
    tenant: str
    authority: str
    identity: Identity


def error_for_response(
    response: ErrorResponse, ref: ObjectRef, context: RequestContext
) -> VaultError:
    """The error for an answer of the vault that is neither the object nor worth another try."""
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
                f"vault {context.vault} answers with status {status}{codes}",
                "Check objectName and objectVersion in the class, and that no proxy answers.",
            )


def _unauthorized(response: ErrorResponse, context: RequestContext) -> AccessDeniedError:
    wanted = re.search(
        r'authorization(?:_uri)?="?(https://[A-Za-z0-9./:_-]{1,200})', response.challenge
    )
    found = wanted[1] if wanted else "an authority that it does not name"
    return AccessDeniedError(
        f"vault {context.vault} does not accept the token (401): it trusts {found}, and the token "
        f"comes from {context.authority}/{context.tenant}",
        f"Set tenantID and cloudName of the class to those of the vault: "
        f"az keyvault show --name {context.vault} --query properties.tenantId",
    )


def _forbidden(response: ErrorResponse, ref: ObjectRef, context: RequestContext) -> VaultError:
    inner = response.codes[-1] if response.codes else ""
    if inner.endswith("Disabled"):
        return ObjectNotFoundError(
            f"{ref} is disabled in vault {context.vault}",
            f"Enable it: az keyvault {_NOUNS[ref.type]} set-attributes --vault-name "
            f"{context.vault} "
            f"--name {ref.name} --enabled true",
        )
    who = identity_name(context.identity)
    if inner in ("ForbiddenByFirewall", "ForbiddenByConnection"):
        return AccessDeniedError(
            f"vault {context.vault} refuses connections from here ({inner})",
            f"Allow this network: az keyvault network-rule add --name {context.vault} "
            "--ip-address ADDRESS, or use a private endpoint.",
        )
    return AccessDeniedError(
        f"vault {context.vault} does not let {who} read {ref} (403)",
        _grant_remedy(ref, context),
    )


_NOUNS = {ObjectType.SECRET: "secret", ObjectType.KEY: "key", ObjectType.CERT: "certificate"}
"""What az and access policies call the types."""
_ROLES = {
    ObjectType.SECRET: "Key Vault Secrets User",
    ObjectType.KEY: "Key Vault Crypto User",
    ObjectType.CERT: "Key Vault Certificate User",
}


def _grant_remedy(ref: ObjectRef, context: RequestContext) -> str:
    known = profile(context.identity)
    who, noun = known.assignee, _NOUNS[ref.type]
    option = "--spn" if known.client_id else "--object-id"
    return (
        f'Grant it: az role assignment create --role "{_ROLES[ref.type]}" --assignee {who} '
        f"--scope $(az keyvault show --name {context.vault} --query id --output tsv); with access "
        f"policies instead of RBAC: az keyvault set-policy --name {context.vault} {option} {who} "
        f"--{noun}-permissions get. A new grant takes some minutes to count."
    )


def _not_found(
    response: ErrorResponse, ref: ObjectRef, context: RequestContext
) -> ObjectNotFoundError:
    if "VaultNotFound" in response.codes:
        return ObjectNotFoundError(
            f"there is no vault {context.vault}", "Check keyvaultName in the class."
        )
    where = f"--vault-name {context.vault}"
    command = f"az keyvault {_NOUNS[ref.type]} list {where}"
    if ref.version:
        command = (
            f"az keyvault {_NOUNS[ref.type]} list-versions {where} --name {ref.name}; "
            "leave objectVersion empty for the current one"
        )
    return ObjectNotFoundError(
        f"{ref} does not exist in vault {context.vault}",
        f"See what there is: {command}",
    )
