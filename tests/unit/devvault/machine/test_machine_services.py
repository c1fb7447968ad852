"""NMI, the Azure Arc agent and the token proxy of AKS: what they give, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyferry.errors import RequestInvalidError
from keyferry_devvault.clouds import API_SERVER_HOST, TOKEN_PROXY_NAME, TokenProxyHost, parse_host
from keyferry_devvault.entra.access_tokens import AccessTokens
from keyferry_devvault.entra.token_endpoint import Entra
from keyferry_devvault.http_types import Response
from keyferry_devvault.machine.arc import ARC_HOST, Arc
from keyferry_devvault.machine.imds import IMDS_TOKEN_PATH, Imds
from keyferry_devvault.machine.nmi import NMI_HOST, Nmi
from keyferry_devvault.storage.credentials import PodAssignment
from keyferry_devvault.storage.data import DevVaultData
from tests.unit.devvault.calls import call, form, json_of, outcome

CLIENT = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "bbbbbbbb-0000-4000-8000-000000000002"
RESOURCE = "https://vault.azure.net"


def ask_nmi(dev: DevVaultData, headers: dict[str, str], resource: str = RESOURCE) -> Response:
    """The answer of NMI."""
    nmi = Nmi(dev, AccessTokens(dev.signing_keys))
    wanted = call("GET", NMI_HOST, "/host/token/", query={"resource": resource}, headers=headers)
    return outcome(lambda: nmi.handle(wanted))


def ask_arc(arc: Arc, authorization: str = "", **query: str) -> Response:
    """The answer of the Arc agent."""
    headers = {"metadata": "true", "authorization": authorization}
    query = {"api-version": "2020-06-01", "resource": RESOURCE} | query
    return outcome(
        lambda: arc.handle(call("GET", ARC_HOST, IMDS_TOKEN_PATH, query=query, headers=headers))
    )


@pytest.fixture
def arc(dev: DevVaultData) -> Arc:
    """The agent of a machine with an identity."""
    dev.identities.add_managed(CLIENT, system_assigned=True)
    return Arc(Imds(dev, AccessTokens(dev.signing_keys)), dev.folder / "arc")


def test_nmi_gives_a_pod_the_token_of_its_identity(dev: DevVaultData) -> None:
    """Wrapped, with the client id beside it."""
    dev.identities.add_managed(CLIENT)
    dev.credentials.assign_to_pods(PodAssignment(CLIENT, "shop", "web-*"))
    answer = ask_nmi(dev, {"podname": "web-0", "podns": "shop"})
    assert answer.status == 200
    assert json_of(answer)["clientid"] == CLIENT
    assert json_of(answer)["token"]["resource"] == RESOURCE


@pytest.mark.parametrize(
    ("headers", "resource", "status"),
    [
        ({"podname": "db-0", "podns": "shop"}, RESOURCE, 403),
        ({"podname": "web-0", "podns": "other"}, RESOURCE, 403),
        ({"podns": "shop"}, RESOURCE, 400),
        ({"podname": "web-0"}, RESOURCE, 400),
        ({"podname": "web-0", "podns": "shop"}, "https://management.azure.com", 400),
    ],
)
def test_nmi_refuses(
    dev: DevVaultData, headers: dict[str, str], resource: str, status: int
) -> None:
    """Other pods, other namespaces, requests without a pod, other resources."""
    dev.identities.add_managed(CLIENT)
    dev.credentials.assign_to_pods(PodAssignment(CLIENT, "shop", "web-*"))
    assert ask_nmi(dev, headers, resource).status == status


def test_pods_forget_an_identity_that_is_removed(dev: DevVaultData) -> None:
    """And an identity that does not exist cannot be assigned."""
    dev.identities.add_managed(CLIENT)
    dev.credentials.assign_to_pods(PodAssignment(CLIENT, "shop"))
    dev.identities.remove(CLIENT)
    assert dev.credentials.identity_of_pod("shop", "web-0") is None
    with pytest.raises(RequestInvalidError):
        dev.credentials.assign_to_pods(PodAssignment(OTHER, "shop"))


def test_the_arc_agent_takes_each_answer_once(arc: Arc) -> None:
    """The file holds it, only its owner may read it, and it is removed afterwards."""
    challenge = ask_arc(arc)
    assert challenge.status == 401
    path = Path(challenge.headers["WWW-Authenticate"].removeprefix("Basic realm="))
    assert path.stat().st_mode & 0o777 == 0o600
    key = path.read_text()
    assert ask_arc(arc, f"Basic {key}").status == 200
    assert not path.exists()
    assert ask_arc(arc, f"Basic {key}").status == 403


def test_the_arc_agent_refuses(arc: Arc) -> None:
    """A guessed key, an unknown API version, an id."""
    ask_arc(arc)
    assert ask_arc(arc, "Basic guessed").status == 403
    assert ask_arc(arc, **{"api-version": "1999-01-01"}).status == 400
    assert ask_arc(arc, client_id=CLIENT).status == 400


def test_the_arc_agent_keeps_a_bounded_number_of_files(arc: Arc, dev: DevVaultData) -> None:
    """A client that never answers must not fill the disk."""
    for _ in range(110):
        ask_arc(arc)
    assert len(list((dev.folder / "arc").iterdir())) == 100


def test_the_token_proxy_answers_to_its_server_name_only(dev: DevVaultData) -> None:
    """Otherwise it would be the API server."""
    entra = Entra(dev, AccessTokens(dev.signing_keys))
    station = parse_host(f"{API_SERVER_HOST}:443")
    assert station == TokenProxyHost(TOKEN_PROXY_NAME)
    wanted = form(API_SERVER_HOST, "/tenant/oauth2/v2.0/token", {})
    assert outcome(lambda: entra.handle_token_proxy(wanted, station)).status == 401


@pytest.mark.parametrize(
    "pem", ["", "x", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]
)
def test_an_app_is_known_by_real_certificates_only(dev: DevVaultData, pem: str) -> None:
    """Said when it is added."""
    dev.identities.add_app(CLIENT, secret=None)
    with pytest.raises(RequestInvalidError, match="the certificate of app"):
        dev.credentials.add_certificate(CLIENT, pem)
