"""Failed connections to a vault: the problem and the remedy."""

from __future__ import annotations

import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from keyferry.providers.vault.http.http_errors import (
    chooses_status,
    tls_required_problem,
    vault_connection_problem,
)
from keyferry.providers.vault.http.server import (
    DEFAULT_ADDRESS,
    Address,
    Server,
    TlsSettings,
    parse_address,
)

STANDBY = Address("https://vault.example.com:8200")
KEY = ConnectionKey("vault.example.com", 8200, True, True, None, None, None)


def bad_certificate(code: int) -> aiohttp.ClientConnectorCertificateError:
    """Return the exception of aiohttp for a verification error code of OpenSSL."""
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return aiohttp.ClientConnectorCertificateError(KEY, error)


@pytest.mark.parametrize("system_cas", [True, False])
def test_untrusted_ca_names_the_parameters_and_trusted_cas(system_cas: bool) -> None:
    """The remedy says whether the CAs of the system are trusted."""
    server = Server(STANDBY, tls=TlsSettings(system_cas=system_cas))
    problem = vault_connection_problem(bad_certificate(20), server, None)
    assert "its issuer is not trusted here" in problem.problem
    assert "vaultCACertPath" in problem.remedy
    assert system_cas == ("this machine" in problem.remedy)


def test_wrong_host_name_names_the_expected_one() -> None:
    """The name from the SecretProviderClass, otherwise the host."""
    named = Server(STANDBY, tls=TlsSettings(server_name="inner.example.com"))
    assert (
        "than inner.example.com"
        in vault_connection_problem(bad_certificate(62), named, None).problem
    )
    plain = vault_connection_problem(bad_certificate(62), Server(STANDBY), None)
    assert "than vault.example.com:8200" in plain.problem
    assert "vaultTLSServerName" in plain.remedy


def test_expired_certificate_has_the_general_remedy() -> None:
    """No parameter would help."""
    assert "clock" in vault_connection_problem(bad_certificate(9), Server(STANDBY), None).remedy


def test_unreachable_redirect_target_is_named_with_its_source() -> None:
    """The configured address is reachable; the target of its redirect is not."""
    refused = aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused"))
    active = URL("https://10.0.0.7:8200/v1/auth/jwt/login")
    problem = vault_connection_problem(refused, Server(STANDBY), active)
    assert problem.problem == (
        "vault.example.com:8200 is a standby node that redirects to 10.0.0.7:8200, and "
        "10.0.0.7:8200 could not be reached (connection refused)"
    )
    assert problem.transient


def test_missing_client_certificate_names_the_parameters() -> None:
    """TLS 1.3 reports it after the handshake, so that it looks like a lost connection."""
    alert = aiohttp.ClientOSError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")
    problem = vault_connection_problem(alert, Server(STANDBY), None)
    assert "requires a client certificate" in problem.problem
    assert "vaultTLSClientCertPath" in problem.remedy
    assert problem.transient, "OpenSSL may report it for another connection"
    assert not problem.error("read").host_fault
    assert not problem.error("read").is_outage


def test_listener_without_tls_suggests_http() -> None:
    """A development server listens without TLS."""
    error = aiohttp.ClientConnectorSSLError(KEY, OSError(0, "wrong version"))
    problem = vault_connection_problem(error, Server(STANDBY, command="bao"), None)
    assert "`bao server -dev`" in problem.remedy
    assert "http://" in problem.remedy
    assert "https://" in tls_required_problem(Server(STANDBY)).remedy


def test_socket_and_default_address_have_their_own_remedies() -> None:
    """A socket has no firewall. The default address means that vaultAddress is missing."""
    refused = aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused"))
    agent = vault_connection_problem(
        refused, Server(Address("http://localhost", "/run/agent.sock")), None
    )
    assert "an agent listens on the socket" in agent.remedy
    nobody = vault_connection_problem(refused, Server(parse_address(DEFAULT_ADDRESS)), None)
    assert "set vaultAddress" in nobody.remedy
    assert "set vaultAddress" not in vault_connection_problem(refused, Server(STANDBY), None).remedy


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        ("/v1/sys/health", True),
        ("/v1//sys//health", True),
        ("/v1/team-a/sys/health", True),
        ("/v1/%73ys/health", True),
        ("/v1/%2573ys/health", True),
        ("/v1/secret%2F..%2Fsys%2Fhealth", True),
        ("/v1/SYS/health?activecode=503", True),
        ("/v1/x\\sys\\health", True),
        ("/prefix/v1/sys/seal-status", True),
        ("/v1/secret/data/sysadmin", False),
        ("/v1/secret/data/db?path=/sys/health", False),
        ("/v1/auth/kubernetes/login", False),
    ],
)
def test_requests_below_sys_may_choose_their_status(path: str, chosen: bool) -> None:
    """In every spelling, and in every namespace."""
    assert chosen == chooses_status(path)
