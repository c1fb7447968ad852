"""Translates error responses of Key Vault into errors with a remedy. [pure]"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import (
    AccessDeniedError,
    ConnectionFailedError,
    Denial,
    KeyferryError,
    ObjectMissingError,
    ObjectNotFoundError,
    Stage,
    VaultError,
    VaultNotFoundError,
    VaultThrottledError,
    VaultUnavailableError,
)
from keyferry.providers.azure.auth.identity import (
    Identity,
    emulator_principal,
    identity_name,
    profile,
)
from keyferry.providers.azure.objects import ALL_OBJECTS, ObjectRef, ObjectType
from keyferry.providers.azure.versions import ObjectDisabledError

if TYPE_CHECKING:
    from keyferry.net.http_responses import ErrorResponse
    from keyferry.providers.emulator import EmulatorCommands


class RequestContext(Struct, frozen=True):
    """The facts about a request to a vault that its error messages name.

    Attributes:
        vault: the name of the vault.
        tenant: the tenant of the SecretProviderClass.
        authority: the https URL of the token endpoint that issued the token.
        identity: the identity that sent the request.
        emulator: the commands of the development vault that received it; None in production.
    """

    vault: str
    tenant: str
    authority: str
    identity: Identity
    emulator: EmulatorCommands | None = None


def error_for_response(
    response: ErrorResponse, ref: ObjectRef, context: RequestContext
) -> VaultError:
    """Return the error for a response that is neither a success nor retryable.

    1. 401: the vault rejects the token.
    2. 403: disabled object, blocked network, or missing permission, by the inner error code.
    3. 404: the vault or the object does not exist.
    4. Any other status.
    """
    error = _cloud_error(response, ref, context)
    if context.emulator is not None:
        error.remedy = _emulator_remedy(
            response.status,
            response.codes[-1] if response.codes else "",
            ref,
            vault=context.vault,
            identity=context.identity,
            commands=context.emulator,
        )
    return error


def _cloud_error(response: ErrorResponse, ref: ObjectRef, context: RequestContext) -> VaultError:
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
                stage=Stage.OBJECT,
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
        denial=Denial.TOKEN,
    )


def _forbidden(response: ErrorResponse, ref: ObjectRef, context: RequestContext) -> VaultError:
    inner = response.codes[-1] if response.codes else ""
    if inner.endswith("Disabled"):
        return ObjectDisabledError(
            f"{ref} is disabled in vault {context.vault}",
            f"Enable it: az keyvault {_NOUNS[ref.type]} set-attributes --vault-name "
            f"{context.vault} --name {ref.name} --enabled true",
        )
    if inner in _OF_FIREWALLS:
        return AccessDeniedError(
            f"vault {context.vault} refuses connections from here ({inner})",
            f"Allow this network: az keyvault network-rule add --name {context.vault} "
            "--ip-address ADDRESS, or use a private endpoint.",
            denial=Denial.NETWORK,
        )
    action = f"list its {_NOUNS[ref.type]}s" if ref.name == ALL_OBJECTS else f"read {ref}"
    return AccessDeniedError(
        f"vault {context.vault} does not let {identity_name(context.identity)} {action} (403)",
        _grant_remedy(ref, context),
        denial=Denial.ROLE if inner == "ForbiddenByRbac" else Denial.POLICY,
    )


_OF_FIREWALLS = ("ForbiddenByFirewall", "ForbiddenByConnection")
"""The inner codes of responses to a network that is not permitted."""
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
    permissions = "get list" if ref.name == ALL_OBJECTS else "get"
    return (
        f'Assign a role: az role assignment create --role "{_ROLES[ref.type]}" --assignee '
        f"{about.assignee} --scope $(az keyvault show --name {context.vault} --query id "
        "--output tsv); with access policies instead of RBAC: az keyvault set-policy --name "
        f"{context.vault} {option} {about.assignee} --{_NOUNS[ref.type]}-permissions "
        f"{permissions}. "
        "It takes effect after some minutes."
    )


def _not_found(
    response: ErrorResponse, ref: ObjectRef, context: RequestContext
) -> ObjectNotFoundError:
    if "VaultNotFound" in response.codes:
        return VaultNotFoundError(
            f"there is no vault {context.vault}", "Check keyvaultName in the SecretProviderClass."
        )
    where = f"--vault-name {context.vault}"
    command = f"az keyvault {_NOUNS[ref.type]} list {where}"
    if ref.version:
        command = (
            f"az keyvault {_NOUNS[ref.type]} list-versions {where} --name {ref.name}; "
            "leave objectVersion empty for the current version"
        )
    return ObjectMissingError(
        f"{ref} does not exist in vault {context.vault}",
        f"List what exists: {command}",
    )


# --- Remedies with the commands of the development vault ---

_GROUPS = {ObjectType.SECRET: (), ObjectType.KEY: ("key",), ObjectType.CERT: ("cert",)}
"""The command groups of the types; secrets have none."""
_CLOUD_COMMAND = re.compile(r"\b(?:az|azcmagent)(?: [a-z][a-z-]*)+(?: --?[\w-]+(?: [^\s;.,)]+)?)*")


def _emulator_remedy(  # noqa: PLR0911 - one for each case
    status: int,
    inner_code: str,
    ref: ObjectRef,
    *,
    vault: str,
    identity: Identity,
    commands: EmulatorCommands,
) -> str:
    """Return the remedy for an error response of a vault.

    Args:
        status: the HTTP status.
        inner_code: the innermost error code of the response; "" for none.
        ref: the object that was requested.
        vault: the name of the vault.
        identity: the identity that sent the request.
        commands: the commands of the development vault.
    """
    group = _GROUPS[ref.type]
    match status:
        case 401:
            tenants = commands.line("status")
            return f"Set tenantID in the SecretProviderClass to the tenant of the vault: {tenants}"
        case 403 if inner_code.endswith("Disabled"):
            which = ("--version", ref.version) if ref.version else ()
            return f"Enable it: {commands.line(*group, 'enable', vault, ref.name, *which)}"
        case 403 if inner_code in _OF_FIREWALLS:  # the development vault has no firewall
            return commands.fault_remedy()
        case 403:
            allow = ("--allow", "get,list")
            return (
                f"Permit it: {commands.line('policy', vault, emulator_principal(identity), *allow)}"
            )
        case 404 if inner_code == "VaultNotFound":
            return (
                "Check keyvaultName in the SecretProviderClass, or create the vault with its first "
                f"secret: {commands.line('set', vault, 'NAME')}"
            )
        case 404 if ref.version:
            versions = commands.line(*group, "list", vault, ref.name)
            return f"List what exists: {versions}; an empty objectVersion is the current version"
        case 404:
            return f"List what exists: {commands.line(*group, 'list', vault)}"
        case _:
            return commands.fault_remedy()


def emulator_remedy(error: KeyferryError, commands: EmulatorCommands) -> str:
    """Return the remedy of `error` without commands and advice that concern only the cloud."""
    match error:
        case ConnectionFailedError() | VaultThrottledError() | VaultUnavailableError():
            return commands.fault_remedy()
        case VaultError(is_outage=True):
            return commands.fault_remedy()
        case _:
            pass
    identities = commands.line("identity", "list")
    match len(_CLOUD_COMMAND.findall(error.remedy)):
        case 0:
            return error.remedy
        case 1:
            return _CLOUD_COMMAND.sub(lambda _: identities, error.remedy)
        case _:
            return f"Compare with the identities of the development vault: {identities}"
