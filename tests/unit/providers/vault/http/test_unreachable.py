"""What it means for a class when the way to its vault ends early."""

from __future__ import annotations

import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from keyferry.providers.vault.http.http_errors import tls_required_problem, vault_connection_problem
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
    """What aiohttp raises for this code of OpenSSL."""
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return aiohttp.ClientConnectorCertificateError(KEY, error)


@pytest.mark.parametrize("system_cas", [True, False])
def test_an_unknown_authority_is_told_where_to_name_it(system_cas: bool) -> None:
    """And whether those of the machine count as well."""
    server = Server(STANDBY, tls=TlsSettings(system_cas=system_cas))
    problem = vault_connection_problem(bad_certificate(20), server, None)
    assert "its issuer is not trusted here" in problem.problem
    assert "vaultCACertPath" in problem.remedy
    assert system_cas == ("this machine" in problem.remedy)


def test_another_name_is_told_with_the_one_that_was_wanted() -> None:
    """That of the class, else the host."""
    named = Server(STANDBY, tls=TlsSettings(server_name="inner.example.com"))
    assert (
        "than inner.example.com"
        in vault_connection_problem(bad_certificate(62), named, None).problem
    )
    plain = vault_connection_problem(bad_certificate(62), Server(STANDBY), None)
    assert "than vault.example.com:8200" in plain.problem
    assert "vaultTLSServerName" in plain.remedy


def test_dates_have_the_remedy_of_everybody() -> None:
    """Nothing in the class would help."""
    assert "clock" in vault_connection_problem(bad_certificate(9), Server(STANDBY), None).remedy


def test_a_server_that_we_were_sent_to_is_named_with_the_one_that_sent_us() -> None:
    """The address of the class is fine, so it is not the one that could not be reached."""
    refused = aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused"))
    active = URL("https://10.0.0.7:8200/v1/auth/jwt/login")
    problem = vault_connection_problem(refused, Server(STANDBY), active)
    assert problem.problem == (
        "vault.example.com:8200 is a standby node that redirects to 10.0.0.7:8200, and "
        "10.0.0.7:8200 could not be reached (connection refused)"
    )
    assert problem.transient


def test_a_listener_that_wants_a_certificate_is_told_with_the_parameters_that_name_one() -> None:
    """TLS 1.3 refuses after its handshake, so it looks like a connection that breaks."""
    alert = aiohttp.ClientOSError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")
    problem = vault_connection_problem(alert, Server(STANDBY), None)
    assert "wants a client certificate" in problem.problem
    assert "vaultTLSClientCertPath" in problem.remedy
    assert not problem.transient


def test_tls_that_is_not_spoken_there_is_told_with_the_other_scheme() -> None:
    """A server for development listens without TLS."""
    error = aiohttp.ClientConnectorSSLError(KEY, OSError(0, "wrong version"))
    problem = vault_connection_problem(error, Server(STANDBY, command="bao"), None)
    assert "`bao server -dev`" in problem.remedy
    assert "http://" in problem.remedy
    assert "https://" in tls_required_problem(Server(STANDBY)).remedy


def test_a_socket_and_the_address_of_nobody_have_remedies_of_their_own() -> None:
    """No firewall stands before a socket; and a class with a typo names no vault."""
    refused = aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "refused"))
    agent = vault_connection_problem(
        refused, Server(Address("http://localhost", "/run/agent.sock")), None
    )
    assert "an agent listens on the socket" in agent.remedy
    nobody = vault_connection_problem(refused, Server(parse_address(DEFAULT_ADDRESS)), None)
    assert "set vaultAddress" in nobody.remedy
    assert "set vaultAddress" not in vault_connection_problem(refused, Server(STANDBY), None).remedy
