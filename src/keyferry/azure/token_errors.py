"""Why there is no token: from the exceptions of azure-identity to ours. [pure]

That library nests what happened: our connection's exception, or the answer of the token endpoint,
lies somewhere along the chain of causes. Its own texts quote answers, so they are never repeated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import aiohttp
import msgspec

from keyferry.azure.aadsts import explain
from keyferry.azure.excerpt import excerpt
from keyferry.azure.modes import (
    Identity,
    ServicePrincipal,
    VmManagedIdentity,
    WorkloadIdentity,
    client_name,
)
from keyferry.connection_errors import ConnectionProblem, connection_problem
from keyferry.errors import ConnectionFailedError, IdentityError
from keyferry.retry import RETRY_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IMDS_HOST = "169.254.169.254"
_IMDS_RETRY_STATUSES = RETRY_STATUSES | {404, 410}
"""IMDS says 404 and 410 while it starts or is being updated."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the token endpoint said instead of giving a token.

    Attributes:
        status: of HTTP.
        headers: of the answer.
        body: of the answer; only its codes are read.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NoToken:
    """A failed try to get a token.

    Attributes:
        error: the same as an error of ours.
        transient: whether another try can end better.
        answer: what the token endpoint said, if it said anything.
    """

    error: IdentityError | ConnectionFailedError
    transient: bool
    answer: TokenAnswer | None = None


def no_token(
    error: Exception, answer: TokenAnswer | None, *, identity: Identity, tenant: str, host: str
) -> NoToken:
    """Translate a failed try.

    Args:
        error: what azure-identity, or a time limit around it, raised.
        answer: of the token endpoint, when the caller found one in `error`.
        identity: who asked.
        tenant: of the class.
        host: of the token endpoint.
    """
    if answer is not None:
        return _refused(answer, identity=identity, tenant=tenant, host=host)
    for cause in causes(error):
        if isinstance(cause, aiohttp.ClientError | TimeoutError | OSError):
            problem = connection_problem(cause, host=host)
            return _unreachable(problem, cause, identity=identity, host=host)
    return NoToken(
        IdentityError(
            f"the answer of {host} for {client_name(identity)} is not one of a token endpoint "
            f"({type(error).__name__})",
            "Check cloudName in the class, and that no proxy answers instead.",
        ),
        transient=False,
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was raised from, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _unreachable(
    problem: ConnectionProblem, cause: BaseException, *, identity: Identity, host: str
) -> NoToken:
    purpose = f"get a token for {client_name(identity)}"
    not_connected = isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    if isinstance(identity, VmManagedIdentity) and not_connected:
        # Where there is no IMDS, no patience brings one; kubelet comes back anyway.
        return NoToken(
            ConnectionFailedError(
                f"failed to {purpose}: this machine has no IMDS ({problem.problem})",
                "Are you on an Azure VM? Managed identities work only there; elsewhere use "
                "workload identity (clientID) or a service principal (nodePublishSecretRef). "
                f"On an Azure VM check that no network policy or proxy blocks {host}.",
                hop=problem.hop,
            ),
            transient=False,
        )
    return NoToken(problem.error(purpose), transient=problem.transient)


def _refused(answer: TokenAnswer, *, identity: Identity, tenant: str, host: str) -> NoToken:
    match identity:
        case VmManagedIdentity():
            return _refused_by_imds(answer, identity)
        case ServicePrincipal() | WorkloadIdentity():
            return _refused_by_entra(answer, identity=identity, tenant=tenant, host=host)
        case _:
            assert_never(identity)


def _refused_by_imds(answer: TokenAnswer, identity: VmManagedIdentity) -> NoToken:
    who = client_name(identity)
    if answer.status in _IMDS_RETRY_STATUSES:
        problem = f"IMDS has no token for {who} (status {answer.status})"
        remedy = "IMDS is starting, busy or being updated; the next mount or refresh tries again."
        return NoToken(IdentityError(problem, remedy), transient=True, answer=answer)
    if answer.status != 400:
        problem = f"IMDS refuses a token for {who}"
        remedy = "Check that IMDS itself answers at this address, and no proxy or network policy."
    elif identity.client_id:
        problem = f"the managed identity with {who} is not assigned to this machine"
        remedy = (
            "Assign it: az vm identity assign (for a scale set az vmss identity assign) "
            "--identities <its resource id>; userAssignedIdentityID takes the client id."
        )
    else:
        problem = "this machine has no system-assigned managed identity"
        remedy = (
            "Switch it on: az vm identity assign (for a scale set az vmss identity assign); or "
            "set userAssignedIdentityID to the client id of a user-assigned one."
        )
    shown = f"{problem} (IMDS answers with status {answer.status})"
    return NoToken(IdentityError(shown, remedy), transient=False, answer=answer)


class _EntraError(msgspec.Struct):
    error: str = ""
    error_description: str = ""
    error_codes: list[int] = msgspec.field(default_factory=list)


def _refused_by_entra(
    answer: TokenAnswer, *, identity: Identity, tenant: str, host: str
) -> NoToken:
    who = client_name(identity)
    if answer.status in RETRY_STATUSES:
        problem = f"{host} has no token for {who} (status {answer.status})"
        remedy = "The failure is on the side of Entra; the next mount or refresh tries again."
        return NoToken(IdentityError(problem, remedy), transient=True, answer=answer)
    code = entra_code(answer.body)
    if code is None:
        problem = f"{host} refuses a token for {who} with status {answer.status}"
        remedy = "Check cloudName in the class, and that no proxy answers instead."
        return NoToken(IdentityError(problem, remedy), transient=False, answer=answer)
    explanation = explain(code, identity=identity, tenant=excerpt(tenant))
    problem = f"Entra refuses a token for {who}: {explanation.problem} (AADSTS{code})"
    return NoToken(IdentityError(problem, explanation.remedy), transient=False, answer=answer)


def entra_code(body: bytes) -> int | None:
    """The number after `AADSTS` in an answer of Entra; None in any other answer."""
    try:
        document = msgspec.json.decode(body, type=_EntraError)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if document.error_codes:
        return document.error_codes[0]
    found = re.match(r"AADSTS([0-9]{4,9})\b", document.error_description)
    return int(found[1]) if found else None
