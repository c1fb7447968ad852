from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from keyferry_devvault.crypto.jwt import JwtClaims
from keyferry_devvault.entra.access_tokens import AccessTokens
from keyferry_devvault.http_types import Response
from keyferry_devvault.machine.imds import IMDS_TOKEN_PATH, Imds
from keyferry_devvault.storage.data import DevVaultData
from tests.unit.devvault.calls import NOW, call, json_of, outcome

VAULT = "https://vault.azure.net"
QUERY = {"api-version": "2018-02-01", "resource": VAULT}
METADATA = {"metadata": "true"}

Ask = Callable[..., Response]


@pytest.fixture
def ask(dev: DevVaultData) -> Ask:
    """IMDS of a machine with one user-assigned identity; an app is registered too."""
    dev.identities.add_managed("user", tenant="t1")
    dev.identities.add_app("app", tenant="t1", secret="s")
    imds = Imds(dev, AccessTokens(dev.signing_keys))

    def answer(
        query: Mapping[str, str],
        headers: Mapping[str, str] = METADATA,
        method: str = "GET",
        path: str = IMDS_TOKEN_PATH,
    ) -> Response:
        request = call(method, "169.254.169.254", path, query=query, headers=headers)
        return outcome(lambda: imds.handle(request))

    return answer


def test_a_user_assigned_identity_is_asked_for_by_any_of_its_ids(
    dev: DevVaultData, ask: Ask
) -> None:
    """The numbers of the answer are texts, as IMDS sends them."""
    identity = dev.identities.get("user")
    for query in (
        {"client_id": "USER"},
        {"object_id": identity.object_id},
        {"msi_res_id": identity.resource_id.upper()},
    ):
        answer = ask(QUERY | query)
        body = json_of(answer)
        claims = AccessTokens(dev.signing_keys).validate(
            body["access_token"], audience=VAULT, tenant="t1", now=NOW
        )
        assert isinstance(claims, JwtClaims)
        assert ("user", "user") == (claims.appid, answer.principal)
        assert ("3600", str(int(NOW) + 3600), VAULT) == (
            body["expires_in"],
            body["expires_on"],
            body["resource"],
        )


def test_without_an_id_the_system_assigned_identity_answers(dev: DevVaultData, ask: Ask) -> None:
    """Without an identity, the response is 404."""
    assert "Identity not found" == json_of(ask(QUERY))["error_description"]
    machine = dev.identities.ensure_system_assigned()
    assert machine.client_id == json_of(ask(QUERY))["client_id"]


@pytest.mark.parametrize(
    ("query", "headers", "status", "text"),
    [
        (QUERY, {}, 400, "Required metadata header not specified"),
        (QUERY, {"metadata": "false"}, 400, "Required metadata header not specified"),
        ({"resource": VAULT}, METADATA, 400, "api-version"),
        (QUERY | {"api-version": "2001-01-01"}, METADATA, 400, "api-version"),
        ({"api-version": "2018-02-01"}, METADATA, 400, "'resource' is missing"),
        (QUERY | {"client_id": "nobody"}, METADATA, 400, "Identity not found"),
        (QUERY | {"client_id": "app"}, METADATA, 400, "Identity not found"),
        (
            QUERY | {"client_id": "user", "resource": "https://graph.example"},
            METADATA,
            400,
            "AADSTS500011",
        ),
    ],
)
def test_a_wrong_request_is_refused(
    ask: Ask, query: dict[str, str], headers: dict[str, str], status: int, text: str
) -> None:
    """Apps are no identities of a machine; the header keeps browsers out."""
    answer = ask(query, headers)
    assert status == answer.status
    assert text in str(json_of(answer))


def test_rejection_logs_how_to_add_the_identity(ask: Ask) -> None:
    """The person who runs the vault can copy the command."""
    assert "identity add-managed nobody" in ask(QUERY | {"client_id": "nobody"}).note


def test_other_paths_and_methods_are_not_there(ask: Ask) -> None:
    """IMDS is played for tokens only."""
    assert 404 == ask(QUERY, path="/metadata/instance").status
    assert 404 == ask(QUERY, method="POST").status
