"""Explains refusals of the token services of a machine: IMDS, Azure Arc agent, NMI. [pure]"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec import Struct

from keyferry.net.retryable import RETRY_STATUSES
from keyferry.providers.azure.auth.identity import TokenService, VmManagedIdentity, identity_name

if TYPE_CHECKING:
    from keyferry.providers.azure.auth.identity import Identity

_STARTING_STATUSES = frozenset({404, 410})
"""What IMDS returns while it starts or is being updated."""


class Diagnosis(Struct, frozen=True):
    """The explanation of a refusal.

    Attributes:
        problem: what failed.
        remedy: what to do, a sentence.
        transient: whether a retry can succeed.
    """

    problem: str
    remedy: str
    transient: bool = False


def diagnose_imds(status: int, identity: Identity) -> Diagnosis:
    """Explain an error status of IMDS for `identity`."""
    name = identity_name(identity)
    if status in RETRY_STATUSES | _STARTING_STATUSES:
        return Diagnosis(
            f"IMDS has no token for {name} (status {status})",
            "IMDS is starting, busy or being updated; the next mount or refresh tries again.",
            transient=True,
        )
    if status != 400:
        return Diagnosis(
            f"IMDS refuses a token for {name} (status {status})",
            "Check that IMDS itself responds at this address, not a proxy, and that no network "
            "policy blocks it.",
        )
    if identity == VmManagedIdentity(""):
        return Diagnosis(
            f"this machine has no system-assigned managed identity (IMDS status {status})",
            "Enable it: az vm identity assign --resource-group GROUP --name MACHINE (for a "
            "scale set az vmss identity assign); or set userAssignedIdentityID to the client ID of "
            "a user-assigned one.",
        )
    return Diagnosis(
        f"the managed identity with {name} is not assigned to this machine (IMDS status {status})",
        "Assign it: az vm identity assign --resource-group GROUP --name MACHINE --identities <its "
        "resource ID> (for a scale set az vmss identity assign). Set userAssignedIdentityID to its "
        "client ID or resource ID, or userAssignedIdentityObjectID to its object ID.",
    )


def diagnose_arc(status: int) -> Diagnosis:
    """Explain an error status of the Azure Arc agent."""
    if status in RETRY_STATUSES:
        return Diagnosis(
            f"the Azure Arc agent has no token (status {status})",
            "The agent is starting or busy; the next mount or refresh tries again.",
            transient=True,
        )
    if status in (401, 403):
        return Diagnosis(
            f"the Azure Arc agent rejects the response to its challenge (status {status})",
            "Check that the user of this process is in the group himds, and that the folder of "
            "the challenge files is the one of this machine.",
        )
    return Diagnosis(
        f"the Azure Arc agent refuses a token (status {status})",
        "Check that the machine is connected: azcmagent show",
    )


def diagnose_nmi(status: int, identity: Identity) -> Diagnosis:
    """Explain an error status of NMI for the pod of `identity`."""
    name = identity_name(identity)
    problem = f"nmi response failed with status code: {status}"
    if status in RETRY_STATUSES | {404}:
        return Diagnosis(
            f"{problem}, it has no token for {name}",
            "Check that the identity is assigned: kubectl get azureassignedidentity -A; the next "
            "mount or refresh tries again.",
            transient=True,
        )
    return Diagnosis(
        f"{problem}, it refuses a token for {name}",
        "Compare the pod's label aadpodidbinding with the selector of an AzureIdentityBinding, "
        "and check that its AzureIdentity is assigned: kubectl get azureassignedidentity -A",
    )


def diagnose_unreachable(token_service: TokenService, *, host: str) -> Diagnosis | None:
    """Explain a failed connection to a service of the machine; None for remote services."""
    match token_service:
        case TokenService.IMDS:
            return Diagnosis(
                "this machine has no IMDS",
                "Managed identities work only on Azure VMs; elsewhere use workload identity "
                "(clientID) or a service principal (nodePublishSecretRef). On an Azure VM, check "
                f"that no network policy or proxy blocks {host}.",
            )
        case TokenService.ARC:
            return Diagnosis(
                "the Azure Arc agent does not respond on this machine",
                "Check its state: azcmagent show; systemctl status himdsd. In a container, set "
                "hostNetwork: true.",
            )
        case TokenService.NMI:
            return Diagnosis(
                "NMI of AAD Pod Identity does not respond on this node",
                "Check that its DaemonSet runs here: kubectl get pods -A -l component=nmi. AAD Pod "
                "Identity is no longer maintained; use workload identity (clientID) instead.",
            )
        case TokenService.ENTRA | TokenService.TOKEN_PROXY:
            return None
        case _:
            assert_never(token_service)
