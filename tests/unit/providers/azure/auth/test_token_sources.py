"""keyferry.providers.azure.auth.token_sources: where token services are."""

from __future__ import annotations

import pytest

from keyferry.net.http_client import HttpsClient, HttpsSettings
from keyferry.providers.azure.auth.identity import TokenService
from keyferry.providers.azure.auth.token_sources import TokenEndpoints, TokenSourceFactory
from keyferry.providers.azure.clouds import CLOUDS
from keyferry.providers.settings import ProviderSettings
from keyferry.records import replace

SOURCES = TokenSourceFactory(
    HttpsClient(HttpsSettings()), TokenEndpoints.from_settings(ProviderSettings(), None)
)


@pytest.mark.parametrize(
    "authority",
    [
        "https://login.microsoftonline.com:444/",
        "https://login.microsoftonline.com:80/",
        "https://login.example/",
    ],
)
def test_another_port_is_another_endpoint(authority: str) -> None:
    """A cloud file may name any port of a shared host; its failures must not count for the host."""
    own = replace(CLOUDS[0], authority=authority)
    endpoint = SOURCES.endpoint(TokenService.ENTRA, own)
    shared = SOURCES.endpoint(TokenService.ENTRA, CLOUDS[0])
    assert "login.microsoftonline.com:443" == shared.authority
    assert endpoint.authority != shared.authority


def test_path_of_an_authority_is_another_connection_to_the_same_host() -> None:
    """AD FS has a path; a file of a tenant may name any."""
    own = replace(CLOUDS[0], authority=f"{CLOUDS[0].authority.rstrip('/')}/adfs")
    endpoint = SOURCES.endpoint(TokenService.ENTRA, own)
    shared = SOURCES.endpoint(TokenService.ENTRA, CLOUDS[0])
    assert endpoint.authority == shared.authority
    assert endpoint.connection != shared.connection


@pytest.mark.parametrize(
    ("service", "authority"),
    [
        (TokenService.IMDS, "169.254.169.254:80"),
        (TokenService.ARC, "127.0.0.1:40342"),
        (TokenService.NMI, "localhost:2579"),
        (TokenService.TOKEN_PROXY, "kubernetes.default.svc.cluster.local:443"),
    ],
)
def test_services_of_the_machine_have_a_port(service: TokenService, authority: str) -> None:
    assert authority == SOURCES.endpoint(service, CLOUDS[0]).authority
