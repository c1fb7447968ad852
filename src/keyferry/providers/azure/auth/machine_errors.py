"""Why a service of the machine gives no token: IMDS, the Azure Arc agent, NMI. [pure]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from keyferry.providers.azure.auth.identity import TokenService, VmManagedIdentity, identity_name
from keyferry.resilience.retry import RETRY_STATUSES

if TYPE_CHECKING:
    from keyferry.providers.azure.auth.identity import Identity

_STARTING_STATUSES = frozenset({404, 410})
"""What IMDS says while it starts or is being updated."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A refusal in our words.

    Attributes:
        problem: what happened.
        remedy: a sentence.
        transient: whether another try can end better.
    """

    problem: str
    remedy: str
    transient: bool = False


def diagnose_imds(status: int, identity: Identity) -> Diagnosis:
    """What a status of IMDS means for this identity."""
    who = identity_name(identity)
    if status in RETRY_STATUSES | _STARTING_STATUSES:
        return Diagnosis(
            f"IMDS has no token for {who} (status {status})",
            "IMDS is starting, busy or being updated; the next mount or refresh tries again.",
            transient=True,
        )
    shown = f"(IMDS answers with status {status})"
    if status != 400:
        return Diagnosis(
            f"IMDS refuses a token for {who} {shown}",
            "Check that IMDS itself answers at this address, and no proxy or network policy.",
        )
    if identity == VmManagedIdentity(""):
        return Diagnosis(
            f"this machine has no system-assigned managed identity {shown}",
            "Switch it on: az vm identity assign --resource-group GROUP --name MACHINE (for a "
            "scale set az vmss identity assign); or set userAssignedIdentityID to the client id of "
            "a user-assigned one.",
        )
    return Diagnosis(
        f"the managed identity with {who} is not assigned to this machine {shown}",
        "Assign it: az vm identity assign --resource-group GROUP --name MACHINE --identities <its "
        "resource id> (for a scale set az vmss identity assign); userAssignedIdentityID takes the "
        "client id or the resource id, userAssignedIdentityObjectID the object id.",
    )


def diagnose_arc(status: int) -> Diagnosis:
    """What a status of the Azure Arc agent means."""
    if status in RETRY_STATUSES:
        return Diagnosis(
            f"the Azure Arc agent has no token (status {status})",
            "The agent is starting or busy; the next mount or refresh tries again.",
            transient=True,
        )
    if status in (401, 403):
        return Diagnosis(
            f"the Azure Arc agent does not accept the answer to its challenge (status {status})",
            "Check that the user of this process is in the group himds, and that the folder of "
            "the challenge files is that of this machine.",
        )
    return Diagnosis(
        f"the Azure Arc agent refuses a token (status {status})",
        "See whether the machine is connected: azcmagent show",
    )


def diagnose_nmi(status: int, identity: Identity) -> Diagnosis:
    """What a status of NMI means for this pod."""
    who = identity_name(identity)
    problem = f"nmi response failed with status code: {status}"
    if status in RETRY_STATUSES | {404}:
        return Diagnosis(
            f"{problem}, it has no token for {who}",
            "The identity may not be assigned yet: kubectl get azureassignedidentity -A; the next "
            "mount or refresh tries again.",
            transient=True,
        )
    return Diagnosis(
        f"{problem}, it refuses a token for {who}",
        "Compare the pod's label aadpodidbinding with the selector of an AzureIdentityBinding, "
        "and see that its AzureIdentity is assigned: kubectl get azureassignedidentity -A",
    )


def diagnose_unreachable(token_service: TokenService, *, host: str) -> Diagnosis | None:
    """What it means that nothing listens at a service of the machine; None for other endpoints."""
    match token_service:
        case TokenService.IMDS:
            return Diagnosis(
                "this machine has no IMDS",
                "Are you on an Azure VM? Managed identities work only there; elsewhere use "
                "workload identity (clientID) or a service principal (nodePublishSecretRef). "
                f"On an Azure VM check that no network policy or proxy blocks {host}.",
            )
        case TokenService.ARC:
            return Diagnosis(
                "the Azure Arc agent does not answer on this machine",
                "Look at it: azcmagent show; systemctl status himdsd. In a container the pod "
                "needs the network of the host.",
            )
        case TokenService.NMI:
            return Diagnosis(
                "NMI of AAD Pod Identity does not answer on this node",
                "See that its DaemonSet runs here: kubectl get pods -A -l component=nmi. AAD Pod "
                "Identity is no longer maintained; workload identity (clientID) replaces it.",
            )
        case TokenService.ENTRA | TokenService.TOKEN_PROXY:
            return None
        case _:
            assert_never(token_service)
