"""Translates outages of a vault and failed connections into errors with a remedy. [pure]"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from keyferry.errors import Stage, VaultError, VaultThrottledError
from keyferry.net.connection_errors import CertificateFault, ConnectionProblem, connection_problem
from keyferry.providers.vault.http.server import DEFAULT_ADDRESS
from keyferry.records import replace

if TYPE_CHECKING:
    from yarl import URL

    from keyferry.providers.vault.http.server import Server

_MAX_ENCODINGS = 3
_RETRY_NOTE = "Keyferry tries again at the next mount or refresh."


def unavailable_error(
    status: int,
    errors: tuple[str, ...],
    server: Server,
    action: str,
    retry_after: float | None,
    *,
    secrets: tuple[str, ...] = (),
) -> VaultError:
    """Return the error for a status that means "try again later".

    Args:
        status: HTTP status of the response.
        errors: errors in the response.
        server: the vault.
        action: completes the sentence "failed to ...".
        retry_after: seconds of the response's Retry-After header; None without one.
        secrets: secrets of the request, which are never quoted.
    """
    text = " ".join(errors).lower()
    if status == 429:
        throttled = VaultThrottledError(
            f"failed to {action}: {server} limits the request rate (429 Too Many Requests)",
            "A rate limit quota of the vault is exhausted: raise it (sys/quotas/rate-limit), or "
            "request fewer objects.",
            retry_after=retry_after,
        )
        if retry_after is not None:
            throttled.add_detail(f"retry after {retry_after:g} s")
        return throttled
    error = _server_error(status, text, server, action)
    if not error.host_problem:
        error.host_problem = f"{server} failed with status {status}"
        quotes = safe_to_quote(errors, secrets=secrets)
        vault_text = f": {'; '.join(quotes)}" if quotes else ""
        error.problem = f"failed to {action}: {error.host_problem}{vault_text}"
    return error


def _server_error(status: int, text: str, server: Server, action: str) -> VaultError:
    """Return the error for a status of a server that cannot respond now."""
    if "sealed" in text:
        problem = f"{server} is sealed ({status})"
        remedy = f"Unseal it: {server.command} operator unseal."
    elif "standby" in text or "active cluster node not found" in text or "not active" in text:
        problem = f"{server} is a standby node and cannot reach an active node ({status})"
        remedy = f"Check the nodes: {server.command} operator raft list-peers, or sys/ha-status."
    elif status == 412:
        problem = f"this node of {server} has not replicated the latest state (412)"
        remedy = "Use the address of the active node, or of a load balancer."
    else:
        problem = ""
        remedy = "The vault has an internal problem: see its log."
    error = VaultError(f"failed to {action}: {problem}", f"{remedy} {_RETRY_NOTE}")
    error.host_problem = problem
    return error


def chooses_status(path: str) -> bool:
    """Return whether a request to `path` may choose the status of its response.

    Any token may read `sys/health?activecode=503`. Other paths below `sys/` report the state of one
    namespace or node, too. However the path is spelled, and in any namespace of the vault.

    Args:
        path: path of the URL; it may be encoded, several times.
    """
    for _ in range(_MAX_ENCODINGS):
        path = unquote(path)
    return "sys" in re.split(r"[/\\]+", path.partition("?")[0].lower())


def safe_to_quote(errors: tuple[str, ...], *, secrets: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the first errors of a response, each shortened to one line, without secrets.

    Users search for the vault's errors, so messages quote them. An error that contains one of the
    request's secrets is dropped: a vault can be made to repeat its input.

    Args:
        errors: errors in the response.
        secrets: secrets of the request.
    """
    quotes = []
    for error in errors[:3]:
        line = " ".join("".join(c if c.isprintable() else " " for c in error).split())
        line = line.removeprefix("1 error occurred: * ")
        if line and not any(secret and secret in error for secret in secrets):
            quotes.append(line if len(line) <= 300 else line[:300] + "...")
    return tuple(quotes)


# --- Failed connections ---------------------------------------------------------------------------


def vault_connection_problem(
    error: Exception, server: Server, redirected_to: URL | None
) -> ConnectionProblem:
    """Translate the exception of a failed connection to a vault.

    Args:
        error: exception of aiohttp.
        server: the vault that the SecretProviderClass names.
        redirected_to: target of the redirect that was followed; None without a redirect.
    """
    if redirected_to is None:
        return _with_vault_remedy(connection_problem(error, host=server.host), server, None)
    host = f"{redirected_to.host}:{redirected_to.port}"
    problem = _with_vault_remedy(connection_problem(error, host=host), server, redirected_to.host)
    text = f"{server.host} is a standby node that redirects to {host}, and {problem.problem}"
    return replace(problem, problem=text)


def redirect_error(server: Server, action: str) -> VaultError:
    """Return the error for a redirect to an address that is not permitted.

    Args:
        server: the vault that the SecretProviderClass names.
        action: completes the sentence "failed to ...".
    """
    return VaultError(
        f"failed to {action}: {server.host} redirects to another address, which is not permitted",
        "Set vaultAddress to the address of the active node or of a load balancer. An "
        "administrator can permit redirects between addresses with --allowed-vault-addresses.",
    )


def tls_required_problem(server: Server) -> ConnectionProblem:
    """Return the problem of an http:// address whose listener accepts only TLS."""
    return ConnectionProblem(
        Stage.TLS,
        f"{server.host} accepts only TLS",
        "Use https:// instead of http:// in the address of the vault.",
        transient=False,
    )


def _with_vault_remedy(
    problem: ConnectionProblem, server: Server, host: str | None
) -> ConnectionProblem:
    match problem.certificate_fault:
        case CertificateFault.ISSUER:
            trusted = "those CAs and the CAs of this machine" if server.tls.system_cas else "those"
            remedy = (
                "Set vaultCACertPath or vaultCADirectory in the SecretProviderClass to the CA that "
                f"signed it. Only {trusted} are trusted."
            )
            return replace(problem, remedy=remedy)
        case CertificateFault.NAME:
            expected = server.tls.server_name or host or server.host
            return replace(
                problem,
                problem=f"{problem.problem} than {expected}",
                remedy="In the SecretProviderClass, set vaultTLSServerName to a name in the "
                "certificate, or vaultAddress to the address that it was issued for.",
            )
        case CertificateFault.CLIENT:
            remedy = (
                "Set vaultTLSClientCertPath and vaultTLSClientKeyPath in the SecretProviderClass."
            )
            return replace(problem, remedy=remedy)
        case CertificateFault.DATES | CertificateFault.NONCOMPLIANT:
            return problem
        case None:
            return replace(problem, remedy=_connection_remedy(problem, server))


def _connection_remedy(problem: ConnectionProblem, server: Server) -> str:
    """Return the remedy for a failed connection without a certificate fault."""
    if problem.stage is Stage.TLS:
        return (
            f"If the vault listens without TLS, like `{server.command} server -dev`, use http:// "
            "in its address. Otherwise check whether a proxy responds instead of the vault."
        )
    if server.address.socket:
        return (
            "Check that an agent listens on the socket, and that the socket's directory is mounted "
            "into the container of Keyferry."
        )
    if server.address.base == DEFAULT_ADDRESS:
        return (
            "This is the default address: set vaultAddress in the SecretProviderClass. "
            f"{problem.remedy}"
        )
    return problem.remedy
