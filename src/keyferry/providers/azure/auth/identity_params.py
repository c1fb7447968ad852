"""Which identity a class asks for: the mode, what it needs, what contradicts it. [pure]

The checks stand in upstream's order.

Source: docs/reference/upstream-azure-provider.md#order-of-checks
Source: docs/reference/upstream-azure-provider.md#identity-modes
"""

from __future__ import annotations

from base64 import b64decode
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, assert_never

from keyferry.errors import ClassInvalidError, IdentityError, excerpt
from keyferry.formats.go_values import parse_boolean
from keyferry.providers.api import POD_NAME, POD_NAMESPACE, POD_UID, SERVICE_ACCOUNT_TOKENS
from keyferry.providers.azure.auth.identity import (
    ArcIdentity,
    CertificatePrincipal,
    Identity,
    IdentityBinding,
    PodIdentity,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
    parse_binding_token,
    parse_exchange_token,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class ModeSwitch(Enum):
    """The parameters that switch a mode on, in the order of their checks."""

    POD_IDENTITY = "usePodIdentity"
    VM = "useVMManagedIdentity"
    TOKEN_PROXY = "useAzureTokenProxy"  # noqa: S105 - a parameter
    ARC = "useArcManagedIdentity"


_MODE_CONFLICT = (
    "only one identity mode can be enabled at a time: "
    "usePodIdentity, useVMManagedIdentity, or useAzureTokenProxy"
)
_CLIENT_ID_KEY = "userAssignedIdentityID"
_OBJECT_ID_KEY = "userAssignedIdentityObjectID"
_RESOURCE_ID_KEY = "userAssignedIdentityResourceID"
_RESOURCE_ID_PREFIX = "/subscriptions/"


def enabled_switch(parameters: Mapping[str, str]) -> ModeSwitch | None:
    """Which mode the booleans switch on; None for none.

    Raises:
        ClassInvalidError: one is not a boolean, or two are true.
    """
    on = [switch for switch in ModeSwitch if _boolean(parameters, switch.value)]
    if len(on) > 1:
        _raise_conflict(_MODE_CONFLICT, *(switch.value for switch in on))
    return on[0] if on else None


def choose_identity(
    switch: ModeSwitch | None,
    parameters: Mapping[str, str],
    secrets: Mapping[str, str] | None,
) -> Identity:
    """The identity of a mount.

    Args:
        switch: what `choose_switch` found.
        parameters: the attributes of the call.
        secrets: the data of the `nodePublishSecretRef` Secret, None without one.

    Raises:
        ClassInvalidError: two parameters contradict each other.
        IdentityError: what the mode needs is missing or malformed.
    """
    _check_user_assigned(switch, parameters)
    try:
        return _build_identity(switch, parameters, secrets)
    except IdentityError as error:
        mode = switch.value.removeprefix("use") if switch else "None"
        problem = f"failed to build auth config for mode {mode}: {error.problem}"
        raise IdentityError(problem, error.remedy) from error.__cause__


def _build_identity(
    switch: ModeSwitch | None, parameters: Mapping[str, str], secrets: Mapping[str, str] | None
) -> Identity:
    client_id = _parameter(parameters, "clientID")
    tokens = parameters.get(SERVICE_ACCOUNT_TOKENS, "")
    match switch:
        case ModeSwitch.POD_IDENTITY:
            pod = (_parameter(parameters, key) for key in (POD_NAMESPACE, POD_NAME, POD_UID))
            return PodIdentity(*pod)
        case ModeSwitch.VM:
            return _machine_identity(parameters)
        case ModeSwitch.TOKEN_PROXY:
            if not client_id:
                remedy = "Set clientID to that of the managed identity which AKS has bound."
                raise IdentityError("clientID is required for identity binding", remedy)
            return IdentityBinding(client_id, parse_binding_token(tokens))
        case ModeSwitch.ARC:
            return ArcIdentity()
        case None if client_id:
            return WorkloadIdentity(client_id, parse_exchange_token(tokens))
        case None:
            return _service_principal(secrets)
        case _:
            assert_never(switch)


# --- a managed identity of the machine ------------------------------------------------------------


def _check_user_assigned(switch: ModeSwitch | None, parameters: Mapping[str, str]) -> None:
    """Refuse two ids at once, and ids where nothing reads them.

    `userAssignedIdentityID` outside of its mode is ignored, as upstream does; so that only our own
    parameters and our own mode can make an error.
    """
    keys = (_CLIENT_ID_KEY, _OBJECT_ID_KEY, _RESOURCE_ID_KEY)
    given = [key for key in keys if _parameter(parameters, key)]
    if switch is ModeSwitch.ARC and given:
        _raise_conflict(
            "an Azure Arc machine has a system-assigned identity only", switch.value, *given
        )
    ours = [key for key in given if key != _CLIENT_ID_KEY]
    if switch is not ModeSwitch.VM and ours:
        raise ClassInvalidError(
            f"{ours[0]} is set and useVMManagedIdentity is not true",
            f"Set useVMManagedIdentity to true, or remove {ours[0]}.",
        )
    if switch is ModeSwitch.VM and len(given) > 1:
        _raise_conflict("a managed identity has one id in a class", *given)
    resource_id = _parameter(parameters, _RESOURCE_ID_KEY)
    if resource_id and not _is_resource_id(resource_id):
        raise ClassInvalidError(
            f"{_RESOURCE_ID_KEY} {excerpt(resource_id)} does not begin with {_RESOURCE_ID_PREFIX}",
            "Find it with: az identity show --resource-group GROUP --name NAME --query id",
        )


def _machine_identity(parameters: Mapping[str, str]) -> VmManagedIdentity:
    client_id = _parameter(parameters, _CLIENT_ID_KEY)
    if _is_resource_id(client_id):
        return VmManagedIdentity("", resource_id=client_id)
    return VmManagedIdentity(
        client_id,
        object_id=_parameter(parameters, _OBJECT_ID_KEY),
        resource_id=_parameter(parameters, _RESOURCE_ID_KEY),
    )


def _is_resource_id(text: str) -> bool:
    return text.casefold().startswith(_RESOURCE_ID_PREFIX)


# --- a service principal --------------------------------------------------------------------------


def _service_principal(
    secrets: Mapping[str, str] | None,
) -> ServicePrincipal | CertificatePrincipal:
    if secrets is None:
        raise IdentityError(
            "failed to get credentials, nodePublishSecretRef secret is not set",
            "Set clientID for workload identity, useVMManagedIdentity for a managed identity, or "
            "nodePublishSecretRef on the volume (for keyferry mount --credentials) for a service "
            "principal.",
        )
    folded = {key.casefold(): value for key, value in secrets.items()}
    secret, certificate = folded.get("clientsecret", ""), folded.get("clientcertificate", "")
    if not folded.get("clientid"):
        raise _missing_key_error("clientid")
    if secret and certificate:
        raise IdentityError(
            "the nodePublishSecretRef Secret has both clientsecret and clientcertificate",
            "Keep one of clientsecret and clientcertificate in it.",
        )
    if certificate:
        password = folded.get("clientcertificatepassword", "")
        return CertificatePrincipal(folded["clientid"], _decode_certificate(certificate), password)
    if not secret:
        raise _missing_key_error("clientsecret")
    return ServicePrincipal(folded["clientid"], secret)


def _missing_key_error(key: str) -> IdentityError:
    also = " (or clientcertificate)" if key == "clientsecret" else ""
    return IdentityError(
        f"could not find {key} in secrets",
        f"The Secret that nodePublishSecretRef names needs the key {key}{also}.",
    )


def _decode_certificate(text: str) -> bytes:
    if "-----BEGIN" in text:
        return text.encode()
    try:
        return b64decode("".join(text.split()), validate=True)
    except ValueError:
        # Neither quoted nor chained: it holds a private key.
        raise IdentityError(
            "clientcertificate is neither PEM nor the base64 text of PKCS#12",
            "Store certificate and private key as PEM, or the output of: base64 app.pfx",
        ) from None


# --- parameters -----------------------------------------------------------------------------------


def _parameter(parameters: Mapping[str, str], key: str) -> str:
    return parameters.get(key, "").strip()


def _boolean(parameters: Mapping[str, str], key: str) -> bool:
    text = _parameter(parameters, key)
    value = parse_boolean(text) if text else False
    if value is not None:
        return value
    raise ClassInvalidError(
        f"failed to parse {key} flag, error: strconv.ParseBool: "
        f'parsing "{excerpt(text)}": invalid syntax',
        'Write "true" or "false".',
    )


def _raise_conflict(rule: str, *keys: str) -> NoReturn:
    """Say which parameters contradict each other.

    Raises:
        ClassInvalidError: always.
    """
    named = " and ".join(keys)
    raise ClassInvalidError(f"{rule}; set are {named}", f"Keep one of {named}.")
