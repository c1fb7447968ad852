"""Why there is no token: from what a token source raises to our errors. [pure]

What an endpoint answers may hold a token or an assertion, so only its status and codes are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import aiohttp
import msgspec

from keyferry.errors import ConnectionFailedError, IdentityError
from keyferry.excerpt import excerpt
from keyferry.net.connection_errors import ConnectionProblem, connection_problem
from keyferry.providers.azure.auth.aadsts import explain
from keyferry.providers.azure.auth.access_token import (
    MalformedTokenResponseError,
    TokenRefusedError,
)
from keyferry.providers.azure.auth.identity import Identity, TokenService, identity_name, profile
from keyferry.providers.azure.auth.machine_errors import (
    diagnose_arc,
    diagnose_imds,
    diagnose_nmi,
    diagnose_unreachable,
)
from keyferry.resilience.retry import RETRY_STATUSES

if TYPE_CHECKING:
    from keyferry.providers.azure.auth.access_token import TokenResponse

TOKEN_EXCEPTIONS = (
    TokenRefusedError,
    MalformedTokenResponseError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    ValueError,
)
"""What a token source raises beside errors of ours; a host name that is none is a `ValueError`."""


@dataclass(frozen=True, slots=True)
class TokenFailure:
    """A failed try to get a token.

    Attributes:
        error: the same as an error of ours.
        transient: whether another try can end better.
        response: what the token endpoint said, if it said anything.
    """

    error: IdentityError | ConnectionFailedError
    transient: bool
    response: TokenResponse | None = None


def token_failure(error: Exception, *, identity: Identity, tenant: str, host: str) -> TokenFailure:
    """Translate a failed try.

    Args:
        error: one of `FAILURES`.
        identity: who asked.
        tenant: of the class.
        host: of the token endpoint.
    """
    if isinstance(error, TokenRefusedError):
        return _refused(error.response, identity=identity, tenant=tenant, host=host)
    if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
        problem = connection_problem(error, host=host)
        return _connection_failure(problem, error, identity=identity, host=host)
    return TokenFailure(_malformed(error, identity=identity, host=host), transient=False)


def _malformed(error: Exception, *, identity: Identity, host: str) -> IdentityError:
    """The error for an answer that no token endpoint would give."""
    if profile(identity).token_service is TokenService.NMI:
        return IdentityError(
            "nmi did not return expected values in response: token and clientid",
            f"Check that NMI itself answers at {host}: kubectl logs -l component=nmi -A",
        )
    return IdentityError(
        f"the answer of {host} for {identity_name(identity)} is not one of a token endpoint "
        f"({type(error).__name__})",
        "Check cloudName in the class, and that no proxy answers instead.",
    )


def _connection_failure(
    problem: ConnectionProblem, error: Exception, *, identity: Identity, host: str
) -> TokenFailure:
    purpose = f"get a token for {identity_name(identity)}"
    not_connected = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    absent = (
        diagnose_unreachable(profile(identity).token_service, host=host) if not_connected else None
    )
    if absent is not None:
        # Where there is no such service, no patience brings one; kubelet comes back anyway.
        return TokenFailure(
            ConnectionFailedError(
                f"failed to {purpose}: {absent.problem} ({problem.problem})",
                absent.remedy,
                stage=problem.stage,
            ),
            transient=False,
        )
    return TokenFailure(problem.error(purpose), transient=problem.transient)


def _refused(
    response: TokenResponse, *, identity: Identity, tenant: str, host: str
) -> TokenFailure:
    endpoint = profile(identity).token_service
    match endpoint:
        case TokenService.IMDS:
            found = diagnose_imds(response.status, identity)
        case TokenService.ARC:
            found = diagnose_arc(response.status)
        case TokenService.NMI:
            found = diagnose_nmi(response.status, identity)
        case TokenService.ENTRA | TokenService.TOKEN_PROXY:
            return _refused_by_entra(response, identity=identity, tenant=tenant, host=host)
        case _:
            assert_never(endpoint)
    error = IdentityError(found.problem, found.remedy)
    return TokenFailure(error, transient=found.transient, response=response)


_NO_AADSTS_REMEDIES = {
    False: "Check cloudName in the class, and that no proxy answers instead.",
    True: "Check that identity binding is on in this cluster, and that the pod's service account "
    "may use-managed-identity this client id (a ClusterRole of the apiGroup cid.wi.aks.azure.com).",
}
"""By whether the token proxy of AKS answered, which sends refusals of its own."""


class _EntraErrorDocument(msgspec.Struct):
    error: str = ""
    error_description: str = ""
    error_codes: list[int] = msgspec.field(default_factory=list)


def _refused_by_entra(
    response: TokenResponse, *, identity: Identity, tenant: str, host: str
) -> TokenFailure:
    who = identity_name(identity)
    if response.status in RETRY_STATUSES:
        problem = f"{host} has no token for {who} (status {response.status})"
        remedy = "The failure is on the side of Entra; the next mount or refresh tries again."
        return TokenFailure(IdentityError(problem, remedy), transient=True, response=response)
    code = aadsts_code(response.body)
    if code is None:
        problem = f"{host} refuses a token for {who} with status {response.status}"
        remedy = _NO_AADSTS_REMEDIES[profile(identity).token_service is TokenService.TOKEN_PROXY]
        return TokenFailure(IdentityError(problem, remedy), transient=False, response=response)
    explanation = explain(code, identity=identity, tenant=excerpt(tenant))
    problem = f"Entra refuses a token for {who}: {explanation.problem} (AADSTS{code})"
    return TokenFailure(
        IdentityError(problem, explanation.remedy), transient=False, response=response
    )


def aadsts_code(body: bytes) -> int | None:
    """The number after `AADSTS` in an answer of Entra; None in any other answer."""
    try:
        document = msgspec.json.decode(body, type=_EntraErrorDocument)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if document.error_codes:
        return document.error_codes[0]
    found = re.match(r"AADSTS([0-9]{4,9})\b", document.error_description)
    return int(found[1]) if found else None
