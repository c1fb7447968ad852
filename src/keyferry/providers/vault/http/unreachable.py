"""What it means for a class when the way to its vault ends early. [pure]"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from keyferry.errors import Stage
from keyferry.net.connection_errors import CertificateFault, ConnectionProblem, connection_problem
from keyferry.providers.vault.http.server import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from yarl import URL

    from keyferry.providers.vault.http.server import Server


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
            others = ", or those of this machine" if server.tls.machine_cas else ""
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
