"""What it means when a vault says "later": sealed, standby, throttled, failing. [pure]"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from keyferry.errors import Stage, VaultError, VaultThrottledError
from keyferry.net.connection_errors import CertificateFault, ConnectionProblem, connection_problem
from keyferry.providers.vault.http.server import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from yarl import URL

    from keyferry.providers.vault.http.server import Server

_RETRY_NOTE = "Keyferry tries again with the next mount or refresh."


def unavailable_error(
    status: int,
    errors: tuple[str, ...],
    server: Server,
    action: str,
    retry_after: float | None,
    *,
    secrets: tuple[str, ...] = (),
) -> VaultError:
    """The error for a status that says "later".

    Args:
        status: of HTTP.
        errors: what the vault says.
        server: who answered.
        action: the end of the sentence "failed to ...".
        retry_after: seconds that the answer asked to wait, if it did.
        secrets: what was sent and is never repeated.
    """
    text = " ".join(errors).lower()
    if status == 429:
        wish = "" if retry_after is None else f" and asks to wait {retry_after:g} s"
        return VaultThrottledError(
            f"failed to {action}: {server} throttles (429 Too Many Requests){wish}",
            "A rate-limit quota of the vault is used up: raise it (sys/quotas/rate-limit), or "
            "ask for fewer objects.",
            retry_after=retry_after,
        )
    if "sealed" in text:
        return VaultError(
            f"failed to {action}: {server} is sealed ({status})",
            f"Unseal it: {server.command} operator unseal. {_RETRY_NOTE}",
        )
    if "standby" in text or "active cluster node not found" in text or "not active" in text:
        return VaultError(
            f"failed to {action}: {server} is a standby node and reaches no active one ({status})",
            f"Look at the nodes: {server.command} operator raft list-peers, or sys/ha-status. "
            f"{_RETRY_NOTE}",
        )
    if status == 412:
        return VaultError(
            f"failed to {action}: this node of {server} has not yet seen the newest state (412)",
            f"Use the address of the active node, or of a load balancer. {_RETRY_NOTE}",
        )
    said = f": {'; '.join(quoted)}" if (quoted := safe_to_quote(errors, secrets=secrets)) else ""
    return VaultError(
        f"failed to {action}: {server} failed with status {status}{said}",
        f"The failure is on the vault's side; its own log says more. {_RETRY_NOTE}",
    )


def safe_to_quote(errors: tuple[str, ...], *, secrets: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The first texts of a refusal, short and on one line, without any that repeats a secret.

    People and tests search for the vault's own words, so they are passed on; what a vault could
    have been made to repeat is not.
    """
    shown = []
    for error in errors[:3]:
        line = " ".join("".join(c if c.isprintable() else " " for c in error).split())
        line = line.removeprefix("1 error occurred: * ")
        if line and not any(secret and secret in error for secret in secrets):
            shown.append(line if len(line) <= 300 else line[:300] + "...")
    return tuple(shown)


# --- What it means for a class when the way to its vault ends early -------------------------------


def vault_connection_problem(
    error: Exception, server: Server, redirected_to: URL | None
) -> ConnectionProblem:
    """Translate what was raised on the way to a vault.

    Args:
        error: of aiohttp.
        server: whom the class names.
        redirected_to: where that one had sent us, None as long as it was asked itself.
    """
    if redirected_to is None:
        return _with_vault_remedy(connection_problem(error, host=server.host), server, None)
    host = f"{redirected_to.host}:{redirected_to.port}"
    problem = _with_vault_remedy(connection_problem(error, host=host), server, redirected_to.host)
    said = f"{server.host} is a standby that sends its callers to {host}, and {problem.problem}"
    return replace(problem, problem=said)


def tls_required_problem(server: Server) -> ConnectionProblem:
    """Of a class whose address begins with http://, and a listener that speaks TLS alone."""
    return ConnectionProblem(
        Stage.TLS,
        f"{server.host} speaks TLS alone",
        "Begin the address of the vault with https:// instead of http://.",
        transient=False,
    )


def _with_vault_remedy(
    problem: ConnectionProblem, server: Server, host: str | None
) -> ConnectionProblem:
    match problem.certificate_fault:
        case CertificateFault.ISSUER:
            others = ", or those of this machine" if server.tls.system_cas else ""
            remedy = (
                "Set vaultCACertPath or vaultCADirectory of the class to the CA that signed it; "
                f"the CAs named there count{others}."
            )
            return replace(problem, remedy=remedy)
        case CertificateFault.NAME:
            wanted = server.tls.server_name or host or server.host
            return replace(
                problem,
                problem=f"{problem.problem} than {wanted}",
                remedy="Set vaultTLSServerName of the class to a name that the certificate has, or "
                "vaultAddress to the address that it is for.",
            )
        case CertificateFault.CLIENT:
            remedy = "Set vaultTLSClientCertPath and vaultTLSClientKeyPath of the class."
            return replace(problem, remedy=remedy)
        case CertificateFault.DATES | CertificateFault.NONCOMPLIANT:
            return problem
        case None:
            return replace(problem, remedy=_connection_remedy(problem, server))


def _connection_remedy(problem: ConnectionProblem, server: Server) -> str:
    """What to look at where no connection stands, and no certificate is to blame."""
    if problem.stage is Stage.TLS:
        return (
            f"If it listens without TLS, as `{server.command} server -dev` does, begin the address "
            "with http://; else check that no proxy answers instead."
        )
    if server.address.socket:
        return (
            "Check that an agent listens there, and that the folder of its socket is mounted into "
            "the container of Keyferry."
        )
    if server.address.base == DEFAULT_ADDRESS:
        return f"It is asked for classes that name no vault: set vaultAddress. {problem.remedy}"
    return problem.remedy
