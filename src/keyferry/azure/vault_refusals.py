"""What it means when Key Vault says "no", and what to do about it. [pure]"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.azure.modes import Identity, client_name, profile
from keyferry.azure.objects import ObjectRef, ObjectType
from keyferry.errors import AccessDeniedError, ObjectNotFoundError, VaultError

if TYPE_CHECKING:
    from keyferry.answers import Refusal


@dataclass(frozen=True, slots=True)
class Asked:
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


def refusal_error(refusal: Refusal, ref: ObjectRef, asked: Asked) -> VaultError:
    """The error for an answer of the vault that is neither the object nor worth another try."""
    match refusal.status:
        case 401:
            return _unauthorized(refusal, asked)
        case 403:
            return _forbidden(refusal, ref, asked)
        case 404:
            return _missing(refusal, ref, asked)
        case status:
            codes = f" ({', '.join(refusal.codes)})" if refusal.codes else ""
            return VaultError(
                f"vault {asked.vault} answers with status {status}{codes}",
                "Check objectName and objectVersion in the class, and that no proxy answers.",
            )


def _unauthorized(refusal: Refusal, asked: Asked) -> AccessDeniedError:
    wanted = re.search(
        r'authorization(?:_uri)?="?(https://[A-Za-z0-9./:_-]{1,200})', refusal.challenge
    )
    found = wanted[1] if wanted else "an authority that it does not name"
    return AccessDeniedError(
        f"vault {asked.vault} does not accept the token (401): it trusts {found}, and the token "
        f"comes from {asked.authority}/{asked.tenant}",
        f"Set tenantID and cloudName of the class to those of the vault: "
        f"az keyvault show --name {asked.vault} --query properties.tenantId",
    )


def _forbidden(refusal: Refusal, ref: ObjectRef, asked: Asked) -> VaultError:
    inner = refusal.codes[-1] if refusal.codes else ""
    if inner.endswith("Disabled"):
        return ObjectNotFoundError(
            f"{ref} is disabled in vault {asked.vault}",
            f"Enable it: az keyvault {_NOUNS[ref.type]} set-attributes --vault-name {asked.vault} "
            f"--name {ref.name} --enabled true",
        )
    who = client_name(asked.identity)
    if inner in ("ForbiddenByFirewall", "ForbiddenByConnection"):
        return AccessDeniedError(
            f"vault {asked.vault} refuses connections from here ({inner})",
            f"Allow this network: az keyvault network-rule add --name {asked.vault} "
            "--ip-address ADDRESS, or use a private endpoint.",
        )
    return AccessDeniedError(
        f"vault {asked.vault} does not let {who} read {ref} (403)",
        _grant_remedy(ref, asked),
    )


_NOUNS = {ObjectType.SECRET: "secret", ObjectType.KEY: "key", ObjectType.CERT: "certificate"}
"""What az and access policies call the types."""
_ROLES = {
    ObjectType.SECRET: "Key Vault Secrets User",
    ObjectType.KEY: "Key Vault Crypto User",
    ObjectType.CERT: "Key Vault Certificate User",
}


def _grant_remedy(ref: ObjectRef, asked: Asked) -> str:
    known = profile(asked.identity)
    who, noun = known.assignee, _NOUNS[ref.type]
    option = "--spn" if known.client_id else "--object-id"
    return (
        f'Grant it: az role assignment create --role "{_ROLES[ref.type]}" --assignee {who} '
        f"--scope $(az keyvault show --name {asked.vault} --query id --output tsv); with access "
        f"policies instead of RBAC: az keyvault set-policy --name {asked.vault} {option} {who} "
        f"--{noun}-permissions get. A new grant takes some minutes to count."
    )


def _missing(refusal: Refusal, ref: ObjectRef, asked: Asked) -> ObjectNotFoundError:
    if "VaultNotFound" in refusal.codes:
        return ObjectNotFoundError(
            f"there is no vault {asked.vault}", "Check keyvaultName in the class."
        )
    where = f"--vault-name {asked.vault}"
    command = f"az keyvault {_NOUNS[ref.type]} list {where}"
    if ref.version:
        command = (
            f"az keyvault {_NOUNS[ref.type]} list-versions {where} --name {ref.name}; "
            "leave objectVersion empty for the current one"
        )
    return ObjectNotFoundError(
        f"{ref} does not exist in vault {asked.vault}",
        f"See what there is: {command}",
    )
