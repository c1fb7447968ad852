"""Translates the exceptions of token sources into Keyferry errors. [pure]

A response may contain a token or an assertion, so only its status and error codes are used.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, assert_never

import msgspec
from msgspec import Struct

from keyferry.aio.http_library import aiohttp
from keyferry.errors import ClassInvalidError, ConnectionFailedError, IdentityError, excerpt
from keyferry.net.connection_errors import (
    ConnectionProblem,
    connection_problem,
    forbidden_address_error,
    is_forbidden_address,
)
from keyferry.net.retryable import RETRY_STATUSES
from keyferry.providers.azure.auth.aadsts import explain
from keyferry.providers.azure.auth.access_token import (
    MalformedTokenResponseError,
    TokenRefusedError,
)
from keyferry.providers.azure.auth.identity import (
    EXCHANGE_AUDIENCE,
    Identity,
    PodIdentity,
    ServiceAccountToken,
    TokenService,
    emulator_principal,
    identity_name,
    profile,
)
from keyferry.providers.azure.auth.machine_errors import (
    diagnose_arc,
    diagnose_imds,
    diagnose_nmi,
    diagnose_unreachable,
)

if TYPE_CHECKING:
    from keyferry.providers.azure.auth.access_token import TokenResponse
    from keyferry.providers.emulator import EmulatorCommands

TOKEN_EXCEPTIONS = (
    TokenRefusedError,
    MalformedTokenResponseError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    ValueError,
)
"""The foreign exceptions of token sources; an invalid host name raises `ValueError`."""


class TokenFailure(Struct, frozen=True):
    """A failed attempt to get a token.

    Attributes:
        error: the translated error.
        transient: whether a retry can succeed.
        response: the response of the token endpoint, if there was one.
    """

    error: IdentityError | ConnectionFailedError | ClassInvalidError
    transient: bool
    response: TokenResponse | None = None


def token_failure(
    error: Exception,
    *,
    identity: Identity,
    tenant: str,
    host: str,
    emulator: EmulatorCommands | None = None,
) -> TokenFailure:
    """Translate a failed attempt to get a token.

    Args:
        error: one of `TOKEN_EXCEPTIONS`.
        identity: the identity whose token was requested.
        tenant: the tenant of the SecretProviderClass.
        host: the host of the token endpoint.
        emulator: the commands of the development vault that received the request; None in
            production.
    """
    if isinstance(error, TokenRefusedError):
        failure = _refused(error.response, identity=identity, tenant=tenant, host=host)
        if emulator is not None:
            failure.error.remedy = _emulator_remedy(failure, identity, tenant, emulator)
        return failure
    if isinstance(error, aiohttp.ClientError | TimeoutError | OSError):
        if is_forbidden_address(error):
            action = f"get a token for {identity_name(identity)}"
            return TokenFailure(forbidden_address_error(action, host), transient=False)
        problem = connection_problem(error, host=host)
        return _connection_failure(problem, error, identity=identity, host=host)
    return TokenFailure(_malformed(error, identity=identity, host=host), transient=False)


def _emulator_remedy(
    failure: TokenFailure, identity: Identity, tenant: str, emulator: EmulatorCommands
) -> str:
    """Return the remedy of a refusal by the development vault."""
    if failure.transient:
        return f"{failure.error.remedy} {emulator.fault_remedy()}"
    code = aadsts_code(failure.response.body) if failure.response else None
    service = profile(identity).token_service
    remedy = _machine_remedy(service, identity, emulator)
    if code is not None:
        remedy = remedy or _entra_remedy(code, identity, excerpt(tenant), emulator)
    return remedy or failure.error.remedy


def _malformed(error: Exception, *, identity: Identity, host: str) -> IdentityError:
    """Return the error for a response without a valid token."""
    if profile(identity).token_service is TokenService.NMI:
        return IdentityError(
            "nmi did not return expected values in response: token and clientid",
            f"Check that NMI itself responds at {host}: kubectl logs -l component=nmi -A",
        )
    return IdentityError(
        f"{host} did not return a valid token response for {identity_name(identity)} "
        f"({type(error).__name__})",
        _CHECK_CLOUD_REMEDY,
    )


_CHECK_CLOUD_REMEDY = (
    "Check cloudName in the SecretProviderClass, and that no proxy responds in place of the token "
    "endpoint."
)


def _connection_failure(
    problem: ConnectionProblem, error: Exception, *, identity: Identity, host: str
) -> TokenFailure:
    action = f"get a token for {identity_name(identity)}"
    not_connected = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    diagnosis = (
        diagnose_unreachable(profile(identity).token_service, host=host) if not_connected else None
    )
    if diagnosis is not None:
        # The service does not run on this machine. A retry cannot help, and kubelet retries anyway.
        failure = ConnectionFailedError(
            f"failed to {action}: {diagnosis.problem} ({problem.problem})",
            diagnosis.remedy,
            stage=problem.stage,
        )
        failure.host = host
        return TokenFailure(failure, transient=False)
    return TokenFailure(problem.error(action), transient=problem.transient)


def _refused(
    response: TokenResponse, *, identity: Identity, tenant: str, host: str
) -> TokenFailure:
    token_service = profile(identity).token_service
    match token_service:
        case TokenService.IMDS:
            diagnosis = diagnose_imds(response.status, identity)
        case TokenService.ARC:
            diagnosis = diagnose_arc(response.status)
        case TokenService.NMI:
            diagnosis = diagnose_nmi(response.status, identity)
        case TokenService.ENTRA | TokenService.TOKEN_PROXY:
            return _refused_by_entra(response, identity=identity, tenant=tenant, host=host)
        case _:
            assert_never(token_service)
    error = IdentityError(diagnosis.problem, diagnosis.remedy)
    return TokenFailure(error, transient=diagnosis.transient, response=response)


_IDENTITY_BINDING_REMEDY = (
    "Check that identity binding is enabled in this cluster, and that the pod's service account "
    "has the verb use-managed-identity for this client ID (a ClusterRole of the apiGroup "
    "cid.wi.aks.azure.com)."
)


class _EntraErrorDocument(msgspec.Struct):
    error: str = ""
    error_description: str = ""
    error_codes: list[int] = msgspec.field(default_factory=list)


def _refused_by_entra(
    response: TokenResponse, *, identity: Identity, tenant: str, host: str
) -> TokenFailure:
    name = identity_name(identity)
    if response.status in RETRY_STATUSES:
        problem = f"{host} has no token for {name} (status {response.status})"
        remedy = "Entra is busy or failing; the next mount or refresh tries again."
        return TokenFailure(IdentityError(problem, remedy), transient=True, response=response)
    code = aadsts_code(response.body)
    if code is None:
        # The token proxy of AKS sends errors of its own, without a code.
        from_proxy = profile(identity).token_service is TokenService.TOKEN_PROXY
        problem = f"{host} refuses a token for {name} with status {response.status}"
        remedy = _IDENTITY_BINDING_REMEDY if from_proxy else _CHECK_CLOUD_REMEDY
        return TokenFailure(IdentityError(problem, remedy), transient=False, response=response)
    explanation = explain(code, identity=identity, tenant=excerpt(tenant))
    problem = f"Entra refuses a token for {name}: {explanation.problem} (AADSTS{code})"
    refused = IdentityError(problem, explanation.remedy)
    refused.is_federation = code in _NOT_FEDERATED
    return TokenFailure(refused, transient=False, response=response)


def aadsts_code(body: bytes) -> int | None:
    """Return the number after `AADSTS` in an error response of Entra; None for any other body."""
    try:
        document = msgspec.json.decode(body, type=_EntraErrorDocument)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if document.error_codes:
        return document.error_codes[0]
    match = re.match(r"AADSTS([0-9]{4,9})\b", document.error_description)
    return int(match[1]) if match else None


# --- Remedies with the commands of the development vault ---

_CLUSTER_ISSUER = "https://kubernetes.default.svc.cluster.local"
_WRONG_TENANT = frozenset({50034, 90002, 700016, 900023, 7000229})
_WRONG_SECRET = frozenset({70002, 7000215, 7000216, 7000218, 7000222})
_WRONG_CERTIFICATE = frozenset({700027, 700030})
_NOT_FEDERATED = frozenset({70021, 700211, 700212, 700213})
_UNKNOWN_ISSUER = frozenset({50027, 50166})


def _entra_remedy(code: int, identity: Identity, tenant: str, commands: EmulatorCommands) -> str:
    """Return the remedy for the error `AADSTS<code>`; "" if the one of the cloud applies too."""
    client = emulator_principal(identity)
    of_tenant = ("--tenant", tenant)
    token = profile(identity).service_account_token
    if code in _WRONG_TENANT:
        return (
            f"List the identities and their tenants: {commands.line('identity', 'list')}; add "
            f"an app: {commands.line('identity', 'add-app', client, *of_tenant)}"
        )
    if code in _WRONG_SECRET:
        command = commands.line("identity", "add-app", client, *of_tenant)
        return f"Set its client secret, which the command prompts for: {command}"
    if code in _WRONG_CERTIFICATE:
        words = ("identity", "add-app", client, *of_tenant, "--certificate", "FILE")
        return f"Register its certificate: {commands.line(*words)}"
    if code in _NOT_FEDERATED and token is not None:
        return f"Add the federated credential: {commands.line(*_federate(client, token))}"
    if code in _UNKNOWN_ISSUER and token is not None:
        command = commands.line("issuer", "add", excerpt(token.issuer) or "URL", "--jwks", "FILE")
        return f"Trust the keys of the issuer of the token: {command}"
    return ""


def _federate(client: str, token: ServiceAccountToken) -> list[str]:
    words = ["identity", "federate", client, "--subject", excerpt(token.subject) or "SUBJECT"]
    if token.issuer not in ("", _CLUSTER_ISSUER):
        words += ["--issuer", excerpt(token.issuer)]
    if token.audience != EXCHANGE_AUDIENCE:
        words += ["--audience", excerpt(token.audience)]
    return words


def _machine_remedy(service: TokenService, identity: Identity, commands: EmulatorCommands) -> str:
    """Return the remedy for a machine service that refuses a token; "" for other services."""
    match service, identity:
        case TokenService.NMI, PodIdentity(namespace, pod):
            words = ("identity", "assign-pod", "CLIENT_ID", "--namespace", excerpt(namespace))
            return f"Assign an identity: {commands.line(*words, '--pod', excerpt(pod))}"
        case TokenService.IMDS | TokenService.ARC, _:
            client = emulator_principal(identity)
            who = "--system" if client == "system" else client
            choose = "Set userAssignedIdentityID, or assign" if client == "system" else "Assign"
            return f"{choose} it: {commands.line('identity', 'add-managed', who)}"
        case _:
            return ""
