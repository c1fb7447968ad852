"""The identity that a class fetches with, one union of its modes. [pure]

Source: azure, section 2. A new mode is one more dataclass in `Identity`; the type checker then
names the places that must learn of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, assert_never

from keyferry.azure.excerpt import excerpt
from keyferry.azure.service_account import ServiceAccountToken, exchange_token
from keyferry.contract import SERVICE_ACCOUNT_TOKENS
from keyferry.errors import ClassInvalidError, IdentityError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})
_SWITCHES = {
    "usePodIdentity": "PodIdentity",
    "useVMManagedIdentity": "VMManagedIdentity",
    "useAzureTokenProxy": "AzureTokenProxy",
}
"""The parameters that switch a mode on, in the order of their checks, and the mode's name."""
_CONFLICT = (
    "only one identity mode can be enabled at a time: "
    "usePodIdentity, useVMManagedIdentity, or useAzureTokenProxy"
)


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """An application of Entra with a client secret, both from the `nodePublishSecretRef` Secret."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class VmManagedIdentity:
    """A managed identity of the machine: user-assigned by client id, or with "" system-assigned."""

    client_id: str


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """An application or managed identity that trusts the service account of the pod."""

    client_id: str
    token: ServiceAccountToken


Identity = ServicePrincipal | VmManagedIdentity | WorkloadIdentity


def choose_switch(parameters: Mapping[str, str]) -> str:
    """Which mode the three booleans switch on: a key of them, or "" for none.

    Raises:
        ClassInvalidError: one is not a boolean, or two are true.
    """
    on = [switch for switch in _SWITCHES if _boolean(parameters, switch)]
    if len(on) > 1:
        remedy = f"Leave one of {' and '.join(on)} true."
        raise ClassInvalidError(f"{_CONFLICT}; true are {' and '.join(on)}", remedy)
    return on[0] if on else ""


def choose_identity(
    switch: str,
    parameters: Mapping[str, str],
    secrets: Mapping[str, str] | None,
) -> Identity:
    """The identity of a mount.

    Args:
        switch: what `choose_switch` found.
        parameters: the attributes of the call.
        secrets: the data of the `nodePublishSecretRef` Secret, None without one.

    Raises:
        ClassInvalidError: the mode is not in this version.
        IdentityError: what the mode needs is missing or malformed.
    """
    try:
        return _choose(switch, parameters, secrets)
    except IdentityError as error:
        mode = _SWITCHES.get(switch, "None")
        problem = f"failed to build auth config for mode {mode}: {error.problem}"
        raise IdentityError(problem, error.remedy) from error.__cause__


def _choose(
    switch: str, parameters: Mapping[str, str], secrets: Mapping[str, str] | None
) -> Identity:
    if switch == "useVMManagedIdentity":
        return VmManagedIdentity(parameters.get("userAssignedIdentityID", "").strip())
    if switch:
        raise ClassInvalidError(
            f"{switch} is true, and this identity mode is not in this version of Keyferry",
            "Use workload identity (clientID) or useVMManagedIdentity.",
        )
    client_id = parameters.get("clientID", "").strip()
    if client_id:
        return WorkloadIdentity(
            client_id, exchange_token(parameters.get(SERVICE_ACCOUNT_TOKENS, ""))
        )
    return _service_principal(secrets)


def _service_principal(secrets: Mapping[str, str] | None) -> ServicePrincipal:
    if secrets is None:
        raise IdentityError(
            "failed to get credentials, nodePublishSecretRef secret is not set",
            "Set clientID for workload identity, useVMManagedIdentity for a managed identity, or "
            "nodePublishSecretRef on the volume for a service principal.",
        )
    folded = {key.casefold(): value for key, value in secrets.items()}
    for key in ("clientid", "clientsecret"):
        if not folded.get(key):
            raise IdentityError(
                f"could not find {key} in secrets",
                f"The Secret that nodePublishSecretRef names needs the key {key}.",
            )
    return ServicePrincipal(folded["clientid"], folded["clientsecret"])


def _boolean(parameters: Mapping[str, str], key: str) -> bool:
    text = parameters.get(key, "").strip()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ClassInvalidError(
        f"failed to parse {key} flag, error: strconv.ParseBool: "
        f'parsing "{excerpt(text)}": invalid syntax',
        'Write "true" or "false".',
    )


def credential_fingerprint(identity: Identity) -> tuple[str, ...]:
    """What tells one credential from another beside cloud and tenant; equal means interchangeable.

    A client secret goes in as its hash, so that a changed one is another credential. A service
    account goes in by issuer and subject, because its tokens differ from pod to pod while what
    they prove is the same; a token that does not tell them goes in as its hash.
    """
    match identity:
        case ServicePrincipal(client_id, client_secret):
            return ("ServicePrincipal", client_id, sha256(client_secret.encode()).hexdigest())
        case VmManagedIdentity(client_id):
            return ("VmManagedIdentity", client_id)
        case WorkloadIdentity(client_id, token):
            return ("WorkloadIdentity", client_id, *token.fingerprint)
        case _:
            assert_never(identity)


def client_name(identity: Identity) -> str:
    """The identity as a person would call it."""
    match identity:
        case ServicePrincipal(client_id) | WorkloadIdentity(client_id):
            return f"client id {excerpt(client_id)}"
        case VmManagedIdentity(""):
            return "the system-assigned identity of this machine"
        case VmManagedIdentity(client_id):
            return f"client id {excerpt(client_id)}"
        case _:
            assert_never(identity)
