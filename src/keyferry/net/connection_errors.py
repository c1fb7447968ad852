"""Translates exceptions of aiohttp: the stage that failed, why, and the remedy. [pure]"""

from __future__ import annotations

import errno
import socket
import ssl
from enum import Enum

from msgspec import Struct

from keyferry.aio.http_library import aiohttp
from keyferry.errors import ClassInvalidError, ConnectionFailedError, Stage, excerpt
from keyferry.net.addresses import ForbiddenAddressError
from keyferry.records import replace

_PROXY_REMEDY = "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY of this process."
_REFUSED_REMEDY = (
    "Nothing listens there, or a firewall refuses connections: check the address and its port, and "
    "that the server runs."
)
_TRUST_REMEDY = (
    "If a proxy inspects TLS here, add its CA to the trusted certificates of this machine "
    "(SSL_CERT_FILE)."
)


class CertificateFault(Enum):
    """What is wrong with the certificate of the server, or of the client (CLIENT)."""

    DATES = "dates"
    ISSUER = "issuer"
    NAME = "name"
    NONCOMPLIANT = "form"
    CLIENT = "client"
    """The client sent no certificate."""


class ConnectionProblem(Struct, frozen=True):
    """Why a request got no usable response.

    Attributes:
        stage: stage that failed.
        problem: what failed, with the name of the host.
        remedy: what a person can do.
        transient: whether a retry can succeed.
        certificate_fault: fault of a certificate, or None for other problems.
        host: the host of the request, as messages name it.
    """

    stage: Stage
    problem: str
    remedy: str
    transient: bool
    certificate_fault: CertificateFault | None = None
    host: str = ""

    def error(self, action: str) -> ConnectionFailedError:
        """Return the error to raise; `action` completes "failed to ..."."""
        error = ConnectionFailedError(
            f"failed to {action}: {self.problem}", self.remedy, stage=self.stage
        )
        # Certificates, names and protocols of TLS depend on settings of the SecretProviderClass.
        error.host_fault = self.stage is not Stage.TLS
        error.is_outage = error.host_fault and self.transient
        error.host_problem = self.problem
        error.host = self.host
        return error


def safe_cause(error: Exception) -> Exception | None:
    """Return `error` if it can be chained; None if its text can repeat a request or response."""
    return None if isinstance(error, aiohttp.ClientResponseError) else error


def is_forbidden_address(error: Exception) -> bool:
    """Return whether a connection was refused because a SecretProviderClass names its address."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return isinstance(cause, ForbiddenAddressError)


def forbidden_address_error(action: str, host: str) -> ClassInvalidError:
    """Return the error for a host that a SecretProviderClass may not name.

    It is the same for all reasons and does not depend on what listens there.

    Args:
        action: completes "failed to ...".
        host: the host, and the port if it is not the default.
    """
    return ClassInvalidError(
        f"failed to {action}: {excerpt(host)} cannot be reached: a SecretProviderClass may not "
        "name this address",
        "Set the address to the name of the vault in the network. An administrator can permit "
        "other addresses with --allowed-vault-addresses.",
        stage=Stage.CONNECT,
    )


def connection_problem(error: Exception, *, host: str) -> ConnectionProblem:
    """Translate an exception that aiohttp raised for a request to `host`."""
    return replace(_connection_problem(error, host), host=host)


def _connection_problem(error: Exception, host: str) -> ConnectionProblem:
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return _connect_failed(error, host)
        case aiohttp.ClientHttpProxyError():
            problem = f"the proxy refused to connect to {host} (status {error.status})"
            return ConnectionProblem(Stage.CONNECT, problem, _PROXY_REMEDY, error.status >= 500)
        case aiohttp.ConnectionTimeoutError():
            problem = f"{host} accepted no connection in time"
            return ConnectionProblem(Stage.CONNECT, problem, _reach_remedy(host), transient=True)
        case TimeoutError():
            problem = f"{host} did not answer in time"
            return ConnectionProblem(Stage.CONNECT, problem, _health_remedy(host), transient=True)
        case aiohttp.InvalidURL():
            problem = f"{host!r} is not a valid host name"
            return ConnectionProblem(
                Stage.DNS, problem, "Check the address in the SecretProviderClass.", transient=False
            )
        case _:
            return _connection_lost(error, host)


def _connect_failed(
    error: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError, host: str
) -> ConnectionProblem:
    cause = error.os_error
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _bad_certificate(error.certificate_error, host)
        case aiohttp.ClientConnectorDNSError():
            return _dns_failed(cause, host)
        case aiohttp.ClientProxyConnectionError():
            problem = f"the proxy {error.host} could not be reached ({_reason(cause)})"
            return ConnectionProblem(Stage.CONNECT, problem, _PROXY_REMEDY, transient=True)
        case aiohttp.ClientSSLError():
            problem = f"the TLS handshake with {host} failed ({_reason(cause)})"
            remedy = f"Check that {host} speaks TLS and that no proxy answers instead."
            return ConnectionProblem(Stage.TLS, problem, remedy, transient=False)
        case _:
            problem = f"{host} could not be reached ({_reason(cause)})"
            refused = cause.errno == errno.ECONNREFUSED
            remedy = _REFUSED_REMEDY if refused else _reach_remedy(host)
            return ConnectionProblem(Stage.CONNECT, problem, remedy, transient=True)


def _connection_lost(error: Exception, host: str) -> ConnectionProblem:
    """Describe a connection that ended.

    Rejections by TLS count as transient. OpenSSL keeps errors by thread, so the rejection of one
    connection can be reported for another one, on which a retry succeeds.
    """
    if "ALERT_CERTIFICATE_REQUIRED" in str(error):  # TLS 1.3 says so after its handshake
        return ConnectionProblem(
            Stage.TLS,
            f"{host} requires a client certificate",
            "Configure a client certificate of a CA that it trusts.",
            transient=True,
            certificate_fault=CertificateFault.CLIENT,
        )
    if "_ALERT_" in str(error):  # TLS 1.3: the server rejected the client after its handshake
        return ConnectionProblem(
            Stage.TLS,
            f"{host} rejected the TLS connection",
            "Check the client certificate: that it has not expired, and that its CA is trusted.",
            transient=True,
            certificate_fault=CertificateFault.CLIENT,
        )
    problem = f"{host} closed the connection before its response was complete"
    return ConnectionProblem(Stage.CONNECT, problem, _health_remedy(host), transient=True)


def _dns_failed(cause: OSError, host: str) -> ConnectionProblem:
    name = host.partition(":")[0]
    remedy = (
        f"Check the spelling of the name and the DNS of this machine: getent hosts {name}. "
        "A vault that was deleted or never created has no address either."
    )
    problem = f"the host name {name} could not be resolved ({_reason(cause)})"
    unknown = cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
    return ConnectionProblem(Stage.DNS, problem, remedy, transient=not unknown)


def _bad_certificate(cause: Exception, host: str) -> ConnectionProblem:
    code = cause.verify_code if isinstance(cause, ssl.SSLCertVerificationError) else 0
    unknown = ("it cannot be verified", _TRUST_REMEDY, CertificateFault.ISSUER)
    reason, remedy, fault = _CERTIFICATE_REASONS.get(code, unknown)
    problem = f"the TLS certificate of {host} is not accepted: {reason}"
    return ConnectionProblem(Stage.TLS, problem, remedy, transient=False, certificate_fault=fault)


_STRICT_REMEDY = (
    "Python 3.13 and newer verify by the letter of RFC 5280 (VERIFY_X509_STRICT), and private CAs "
    "often miss it: reissue CA and certificate with these extensions."
)
_CERTIFICATE_REASONS: dict[int, tuple[str, str, CertificateFault]] = {
    9: ("it is not valid yet", "Check the clock of this machine.", CertificateFault.DATES),
    10: (
        "it has expired",
        "Have it renewed, or check the clock of this machine.",
        CertificateFault.DATES,
    ),
    18: ("it is self-signed", _TRUST_REMEDY, CertificateFault.ISSUER),
    19: ("it is self-signed", _TRUST_REMEDY, CertificateFault.ISSUER),
    20: ("its issuer is not trusted here", _TRUST_REMEDY, CertificateFault.ISSUER),
    62: (
        "it was issued for another name",
        "Check that the name resolves to the real server and that no proxy answers instead.",
        CertificateFault.NAME,
    ),
    64: (
        "it was issued for other addresses",
        "Use a name of the certificate instead of the address, or have the address added to it.",
        CertificateFault.NAME,
    ),
    79: (
        "its issuer is not marked as a CA (basicConstraints)",
        "Reissue the CA with basicConstraints CA:TRUE.",
        CertificateFault.NONCOMPLIANT,
    ),
    85: (
        "it has no authorityKeyIdentifier",
        _STRICT_REMEDY,
        CertificateFault.NONCOMPLIANT,
    ),
    86: ("its CA has no subjectKeyIdentifier", _STRICT_REMEDY, CertificateFault.NONCOMPLIANT),
    89: (
        "the basicConstraints of its CA are not critical",
        _STRICT_REMEDY,
        CertificateFault.NONCOMPLIANT,
    ),
    92: ("its CA has no keyUsage", _STRICT_REMEDY, CertificateFault.NONCOMPLIANT),
}
"""Codes of OpenSSL (X509_V_ERR_...) with a specific remedy."""


def _reach_remedy(host: str) -> str:
    return f"Check that firewalls and network policies let this machine reach {host}."


def _health_remedy(host: str) -> str:
    return f"Check the health of {host} and of any proxy or firewall in between."


_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "timeout",
}
"""Reasons for errors whose text in asyncio is an address."""


def _reason(cause: OSError) -> str:
    return _REASONS.get(cause.errno or 0) or cause.strerror or type(cause).__name__
