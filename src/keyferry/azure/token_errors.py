"""Why there is no token: from what a token source raises to our errors. [pure]

What an endpoint answers may hold a token or an assertion, so only its status and codes are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import aiohttp
import msgspec

from keyferry.azure.aadsts import explain
from keyferry.azure.machine_refusals import arc_refusal, imds_refusal, nmi_refusal, unreachable
from keyferry.azure.modes import Endpoint, Identity, client_name, profile
from keyferry.azure.token_source import NoTokenInAnswerError, TokenRefusedError
from keyferry.connection_errors import ConnectionProblem, connection_problem
from keyferry.errors import ConnectionFailedError, IdentityError
from keyferry.excerpt import excerpt
from keyferry.retry import RETRY_STATUSES

if TYPE_CHECKING:
    from keyferry.azure.token_source import TokenAnswer

FAILURES = (
    TokenRefusedError,
    NoTokenInAnswerError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    ValueError,
)
"""What a token source raises beside errors of ours; a host name that is none is a `ValueError`."""


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


def no_token(error: Exception, *, identity: Identity, tenant: str, host: str) -> NoToken:
    """Translate a failed try.

    Args:
        error: one of `FAILURES`.
        identity: who asked.
        tenant: of the class.
        host: of the token endpoint.
    """
    if isinstance(error, TokenRefusedError):
        return _refused(error.answer, identity=identity, tenant=tenant, host=host)
    if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
        problem = connection_problem(error, host=host)
        return _unreachable(problem, error, identity=identity, host=host)
    return NoToken(_senseless(error, identity=identity, host=host), transient=False)


def _senseless(error: Exception, *, identity: Identity, host: str) -> IdentityError:
    """The error for an answer that no token endpoint would give."""
    if profile(identity).endpoint is Endpoint.NMI:
        return IdentityError(
            "nmi did not return expected values in response: token and clientid",
            f"Check that NMI itself answers at {host}: kubectl logs -l component=nmi -A",
        )
    return IdentityError(
        f"the answer of {host} for {client_name(identity)} is not one of a token endpoint "
        f"({type(error).__name__})",
        "Check cloudName in the class, and that no proxy answers instead.",
    )


def _unreachable(
    problem: ConnectionProblem, error: Exception, *, identity: Identity, host: str
) -> NoToken:
    purpose = f"get a token for {client_name(identity)}"
    not_connected = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    absent = unreachable(profile(identity).endpoint, host=host) if not_connected else None
    if absent is not None:
        # Where there is no such service, no patience brings one; kubelet comes back anyway.
        return NoToken(
            ConnectionFailedError(
                f"failed to {purpose}: {absent.problem} ({problem.problem})",
                absent.remedy,
                hop=problem.hop,
            ),
            transient=False,
        )
    return NoToken(problem.error(purpose), transient=problem.transient)


def _refused(answer: TokenAnswer, *, identity: Identity, tenant: str, host: str) -> NoToken:
    endpoint = profile(identity).endpoint
    match endpoint:
        case Endpoint.IMDS:
            found = imds_refusal(answer.status, identity)
        case Endpoint.ARC:
            found = arc_refusal(answer.status)
        case Endpoint.NMI:
            found = nmi_refusal(answer.status, identity)
        case Endpoint.ENTRA | Endpoint.TOKEN_PROXY:
            return _refused_by_entra(answer, identity=identity, tenant=tenant, host=host)
        case _:
            assert_never(endpoint)
    error = IdentityError(found.problem, found.remedy)
    return NoToken(error, transient=found.transient, answer=answer)


_ODD_ANSWER_REMEDIES = {
    False: "Check cloudName in the class, and that no proxy answers instead.",
    True: "Check that identity binding is on in this cluster, and that the pod's service account "
    "may use-managed-identity this client id (a ClusterRole of the apiGroup cid.wi.aks.azure.com).",
}
"""By whether the token proxy of AKS answered, which sends refusals of its own."""


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
        remedy = _ODD_ANSWER_REMEDIES[profile(identity).endpoint is Endpoint.TOKEN_PROXY]
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
