"""What it means for a class when the way to its vault ends early. [pure]"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from keyferry.connection_errors import CertificateFault, ConnectionProblem, connection_problem

if TYPE_CHECKING:
    from yarl import URL

    from keyferry.vault.server import Server


def vault_problem(error: Exception, server: Server, sent_to: URL | None) -> ConnectionProblem:
    """Translate what was raised on the way to a vault.

    Args:
        error: of aiohttp.
        server: whom the class names.
        sent_to: where that one had sent us, None as long as it was asked itself.
    """
    if sent_to is None:
        return _for_class(connection_problem(error, host=server.host), server, None)
    host = f"{sent_to.host}:{sent_to.port}"
    problem = _for_class(connection_problem(error, host=host), server, sent_to.host)
    said = f"{server.host} is a standby that sends its callers to {host}, and {problem.problem}"
    return replace(problem, problem=said)


def _for_class(problem: ConnectionProblem, server: Server, host: str | None) -> ConnectionProblem:
    match problem.certificate:
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
        case CertificateFault.DATES | CertificateFault.FORM | None:
            return problem
