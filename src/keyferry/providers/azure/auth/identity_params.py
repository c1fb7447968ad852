"""Chooses the identity from the parameters of a SecretProviderClass. [pure]

The checks run in upstream's order.

Source: docs/reference/upstream-azure-provider.md#order-of-checks
Source: docs/reference/upstream-azure-provider.md#identity-modes
"""

from __future__ import annotations

from base64 import b64decode
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, assert_never

from keyferry.errors import ClassInvalidError, IdentityError, excerpt, with_upstream_prefix
from keyferry.formats.go_values import parse_boolean
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
from keyferry.providers.known_fields.attributes import (
    POD_NAME,
    POD_NAMESPACE,
    POD_UID,
    SERVICE_ACCOUNT_TOKENS,
)
from keyferry.providers.known_fields.azure import missing_parameter, missing_secret_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class ModeSwitch(Enum):
    """The boolean parameters that select a mode, in the order of their checks."""

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
    """Return the mode whose parameter is true; None if all are false.

    Raises:
        ClassInvalidError: a value is not a boolean, or two are true.
    """
    enabled = [switch for switch in ModeSwitch if _boolean(parameters, switch.value)]
    if len(enabled) > 1:
        _raise_conflict(_MODE_CONFLICT, *(switch.value for switch in enabled))
    return enabled[0] if enabled else None


def choose_identity(
    switch: ModeSwitch | None,
    parameters: Mapping[str, str],
    secrets: Mapping[str, str] | None,
) -> Identity:
    """Return the identity of a mount.

    Args:
        switch: the result of `enabled_switch`.
        parameters: the attributes of the call.
        secrets: the data of the `nodePublishSecretRef` Secret; None without one.

    Raises:
        ClassInvalidError: two parameters contradict each other.
        IdentityError: a value that the mode requires is missing or malformed.
    """
    _check_user_assigned(switch, parameters)
    try:
        return _build_identity(switch, parameters, secrets)
    except IdentityError as error:
        mode = switch.value.removeprefix("use") if switch else "None"
        prefix = f"failed to build auth config for mode {mode}"
        raise with_upstream_prefix(prefix, error) from error.__cause__


def client_parameters(
    switch: ModeSwitch | None, client_id: str, *, from_secret: bool
) -> dict[str, str]:
    """Return the parameters that `clientID` of an entry of `objects` replaces.

    Args:
        switch: the result of `enabled_switch`.
        client_id: the client ID.
        from_secret: whether the SecretProviderClass uses the `nodePublishSecretRef` Secret.

    Raises:
        ClassInvalidError: the identity mode has only one identity.
    """
    match switch:
        case ModeSwitch.POD_IDENTITY | ModeSwitch.ARC:
            owner = "pod" if switch is ModeSwitch.POD_IDENTITY else "Azure Arc machine"
            raise ClassInvalidError(
                f"clientID of an entry has no effect with {switch.value}: the {owner} has only one "
                "identity",
                "Remove clientID from the entry.",
            )
        case ModeSwitch.VM:
            return {_CLIENT_ID_KEY: client_id, _OBJECT_ID_KEY: "", _RESOURCE_ID_KEY: ""}
        case None if from_secret:
            raise ClassInvalidError(
                "clientID of an entry has no effect with nodePublishSecretRef: the client ID is in "
                "that Secret",
                "Remove clientID from the entry, or use workload identity for all objects.",
            )
        case _:
            return {"clientID": client_id}


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
                remedy = "Set clientID to the client ID of the bound managed identity."
                raise IdentityError("clientID is required for identity binding", remedy)
            return IdentityBinding(client_id, parse_binding_token(tokens))
        case ModeSwitch.ARC:
            return ArcIdentity()
        case None if client_id:
            return WorkloadIdentity(client_id, parse_exchange_token(tokens))
        case None:
            return _service_principal(parameters, secrets)
        case _:
            assert_never(switch)


# --- Managed identities of the machine ------------------------------------------------------------


def _check_user_assigned(switch: ModeSwitch | None, parameters: Mapping[str, str]) -> None:
    """Reject two IDs of a managed identity, and IDs that the mode would ignore.

    Exception: `userAssignedIdentityID` in another mode is ignored, as upstream does. Only Keyferry
    extensions (two parameters, the Arc mode) can cause an error here.
    """
    keys = (_CLIENT_ID_KEY, _OBJECT_ID_KEY, _RESOURCE_ID_KEY)
    set_keys = [key for key in keys if _parameter(parameters, key)]
    if switch is ModeSwitch.ARC and set_keys:
        _raise_conflict(
            "an Azure Arc machine has only a system-assigned identity", switch.value, *set_keys
        )
    extensions = [key for key in set_keys if key != _CLIENT_ID_KEY]
    if switch is not ModeSwitch.VM and extensions:
        raise ClassInvalidError(
            f"{extensions[0]} is set but useVMManagedIdentity is not true",
            f"Set useVMManagedIdentity to true, or remove {extensions[0]}.",
        )
    if switch is ModeSwitch.VM and len(set_keys) > 1:
        _raise_conflict("a SecretProviderClass can name a managed identity by one ID", *set_keys)
    resource_id = _parameter(parameters, _RESOURCE_ID_KEY)
    if resource_id and not _is_resource_id(resource_id):
        raise ClassInvalidError(
            f"{_RESOURCE_ID_KEY} {excerpt(resource_id)} does not begin with {_RESOURCE_ID_PREFIX}",
            "Set it to the output of: az identity show --resource-group GROUP --name NAME "
            "--query id",
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


# --- Service principals ---------------------------------------------------------------------------


def _service_principal(
    parameters: Mapping[str, str], secrets: Mapping[str, str] | None
) -> ServicePrincipal | CertificatePrincipal:
    if secrets is None:
        remedy = (
            "Set clientID for workload identity, useVMManagedIdentity for a managed identity, or "
            "nodePublishSecretRef on the volume for a service principal (keyferry mount: "
            "--credentials)."
        )
        selectors = ("clientID", *(switch.value for switch in ModeSwitch))
        written, remedy = missing_parameter(selectors, parameters, remedy)
        raise IdentityError(
            f"failed to get credentials, nodePublishSecretRef secret is not set{written}", remedy
        )
    folded = {key.casefold(): value for key, value in secrets.items()}
    # Entra ID issues no ID or secret with blanks at its ends; files and `echo` add line breaks.
    client_id, secret = (folded.get(key, "").strip() for key in ("clientid", "clientsecret"))
    certificate = folded.get("clientcertificate", "")
    if not client_id:
        raise _missing_key_error("clientid", secrets)
    if secret and certificate:
        raise IdentityError(
            "the nodePublishSecretRef Secret has both clientsecret and clientcertificate",
            "Remove one of them from the Secret.",
        )
    if certificate:
        password = folded.get("clientcertificatepassword", "").rstrip("\r\n")
        return CertificatePrincipal(client_id, _decode_certificate(certificate), password)
    if not secret:
        raise _missing_key_error("clientsecret", secrets)
    return ServicePrincipal(client_id, secret)


def _missing_key_error(key: str, keys: Collection[str]) -> IdentityError:
    alternative = " or clientcertificate" if key == "clientsecret" else ""
    remedy = f"Add the key {key}{alternative} to the Secret that nodePublishSecretRef names."
    written, remedy = missing_secret_key(key, keys, remedy)
    return IdentityError(f"could not find {key} in secrets{written}", remedy)


def _decode_certificate(text: str) -> bytes:
    if "-----BEGIN" in text:
        return text.encode()
    try:
        return b64decode("".join(text.split()), validate=True)
    except ValueError:
        # Neither quoted nor chained: the text contains a private key.
        raise IdentityError(
            "clientcertificate is neither PEM nor the base64 text of PKCS#12",
            "Store certificate and private key as PEM, or the output of: base64 app.pfx",
        ) from None


# --- Parameters -----------------------------------------------------------------------------------


def _parameter(parameters: Mapping[str, str], key: str) -> str:
    return parameters.get(key, "").strip()


def _boolean(parameters: Mapping[str, str], key: str) -> bool:
    text = _parameter(parameters, key)
    value = parse_boolean(text) if text else False
    if value is not None:
        return value
    shown = f'"{excerpt(text)}"'
    raise with_upstream_prefix(
        f"failed to parse {key} flag, error: strconv.ParseBool: parsing {shown}: invalid syntax",
        ClassInvalidError(f"{key} is neither true nor false: {shown}", 'Write "true" or "false".'),
    )


def _raise_conflict(rule: str, *keys: str) -> NoReturn:
    """Raise the error for parameters that contradict each other.

    Raises:
        ClassInvalidError: always.
    """
    named = " and ".join(keys)
    raise ClassInvalidError(f"{rule}, but {named} are set", f"Keep only one of {named}.")
