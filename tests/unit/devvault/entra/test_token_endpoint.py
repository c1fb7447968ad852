from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from keyferry_devvault.clouds import LoginHost, parse_host
from keyferry_devvault.crypto.jwt import JwtClaims, sign_jwt
from keyferry_devvault.entra.access_tokens import AccessTokens
from keyferry_devvault.entra.assertions import JWT_BEARER
from keyferry_devvault.entra.service_account_tokens import service_account_token
from keyferry_devvault.entra.token_endpoint import Entra
from keyferry_devvault.http_types import Request, Response
from keyferry_devvault.model import CLUSTER_ISSUER, EXCHANGE_AUDIENCE, FederatedCredential
from keyferry_devvault.storage.data import DevVaultData
from tests.unit.devvault.calls import NOW, call, form, json_of, outcome

HOST = "login.microsoftonline.com"
PATH = "/t1/oauth2/v2.0/token"
VAULT = "https://vault.azure.net"
SUBJECT = "system:serviceaccount:shop:web"
SECRET_FORM = {
    "grant_type": "client_credentials",
    "client_id": "APP",
    "client_secret": "canary-right",
    "scope": VAULT + "/.default",
}
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)

Ask = Callable[[Request], Response]


@pytest.fixture
def ask(dev: DevVaultData) -> Ask:
    """Entra with one app that has a secret and a federated credential."""
    dev.identities.add_app("app", tenant="t1", secret="canary-right")
    dev.identities.add_app("other", tenant="t2", secret="canary-right")
    dev.identities.add_federated_credential(
        FederatedCredential("app", CLUSTER_ISSUER, SUBJECT, EXCHANGE_AUDIENCE)
    )
    entra = Entra(dev, AccessTokens(dev.signing_keys))

    def answer(request: Request) -> Response:
        station = parse_host(request.host)
        assert isinstance(station, LoginHost)
        return outcome(lambda: entra.handle(request, station))

    return answer


def assertion_form(assertion: str) -> dict[str, str]:
    kept = {key: value for key, value in SECRET_FORM.items() if key != "client_secret"}
    return kept | {"client_assertion_type": JWT_BEARER, "client_assertion": assertion}


def assertion(
    dev: DevVaultData,
    *,
    subject: str = SUBJECT,
    audience: str = EXCHANGE_AUDIENCE,
    lifetime: int = 60,
) -> str:
    return service_account_token(
        dev.signing_keys, subject, audience=audience, now=NOW, lifetime=lifetime
    )


def test_a_client_secret_buys_a_token_for_the_vaults(dev: DevVaultData, ask: Ask) -> None:
    """The vault accepts it, and it is never cached by a proxy."""
    answer = ask(form(HOST, PATH, SECRET_FORM))
    body = json_of(answer)
    claims = AccessTokens(dev.signing_keys).validate(
        body["access_token"], audience=VAULT, tenant="t1", now=NOW
    )
    assert isinstance(claims, JwtClaims)
    assert (200, "app", "app") == (answer.status, answer.principal, claims.appid)
    assert ("Bearer", 3600) == (body["token_type"], body["expires_in"])
    assert "no-store" == answer.headers["Cache-Control"]


def test_the_scopes_that_sdks_add_are_ignored(ask: Ask) -> None:
    """MSAL for Go asks for openid, offline_access and profile as well."""
    scope = f"{VAULT}/.default openid offline_access profile"
    assert 200 == ask(form(HOST, PATH, SECRET_FORM | {"scope": scope})).status


def test_a_service_account_token_buys_a_token(dev: DevVaultData, ask: Ask) -> None:
    """Its issuer, subject and audience are those of a federated credential."""
    assert 200 == ask(form(HOST, PATH, assertion_form(assertion(dev)))).status


@pytest.mark.parametrize(
    ("changes", "path", "status", "error", "code"),
    [
        ({}, "/nowhere/oauth2/v2.0/token", 400, "invalid_request", 90002),
        ({"client_id": "nobody"}, PATH, 400, "unauthorized_client", 700016),
        ({"client_id": ""}, PATH, 400, "unauthorized_client", 700016),
        ({"client_id": "other"}, PATH, 400, "unauthorized_client", 700016),
        ({"client_secret": "canary-wrong"}, PATH, 401, "invalid_client", 7000215),
        ({"client_secret": ""}, PATH, 401, "invalid_client", 7000215),
        ({"scope": VAULT}, PATH, 400, "invalid_scope", 1002012),
        ({"scope": ""}, PATH, 400, "invalid_scope", 1002012),
        ({"scope": "https://vault.azure.cn/.default"}, PATH, 400, "invalid_resource", 500011),
        ({"scope": "https://graph.example/.default"}, PATH, 400, "invalid_resource", 500011),
        ({"grant_type": "password"}, PATH, 400, "unsupported_grant_type", 70003),
        ({"client_assertion": "a.b.c"}, PATH, 400, "invalid_request", 50027),
    ],
)
def test_a_wrong_request_is_refused_with_the_real_code(
    ask: Ask, changes: dict[str, str], path: str, status: int, error: str, code: int
) -> None:
    """Each check has its AADSTS code; no description quotes a secret or an assertion."""
    answer = ask(form(HOST, path, SECRET_FORM | changes))
    body = json_of(answer)
    assert (status, error, [code]) == (answer.status, body["error"], body["error_codes"])
    assert body["error_description"].startswith(f"AADSTS{code}: ")
    assert not any(text in str(body) for text in ("canary", "a.b.c"))


def test_a_request_without_any_credential_is_refused(ask: Ask) -> None:
    """Entra names the two that it takes."""
    fields = {key: value for key, value in SECRET_FORM.items() if key != "client_secret"}
    assert [7000216] == json_of(ask(form(HOST, PATH, fields)))["error_codes"]


def test_an_app_without_a_secret_accepts_none(dev: DevVaultData, ask: Ask) -> None:
    """Not even an empty one."""
    dev.identities.add_app("bare", tenant="t1", secret=None)
    for secret in ("", "canary-right"):
        fields = SECRET_FORM | {"client_id": "bare", "client_secret": secret}
        assert [7000215] == json_of(ask(form(HOST, PATH, fields)))["error_codes"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"audience": "https://kubernetes.default.svc"}, 401, 700212),
        ({"subject": "system:serviceaccount:shop:other"}, 401, 700213),
        ({"lifetime": -1}, 401, 700024),
    ],
)
def test_a_service_account_token_that_does_not_match_is_refused(
    dev: DevVaultData, ask: Ask, changes: dict[str, int | str], status: int, code: int
) -> None:
    """The code identifies the claim; the description never quotes the token."""
    token = assertion(dev, **changes)  # type: ignore[arg-type]
    answer = ask(form(HOST, PATH, assertion_form(token)))
    assert (status, [code]) == (answer.status, json_of(answer)["error_codes"])
    assert token not in json_of(answer)["error_description"]


def claims_of(issuer: str, **more: float) -> dict[str, object]:
    claims: dict[str, object] = {"iss": issuer, "sub": SUBJECT, "aud": EXCHANGE_AUDIENCE}
    return claims | {"exp": NOW + 60} | more


def test_a_token_of_an_issuer_without_credential_is_refused(ask: Ask) -> None:
    """The code is that of the issuer."""
    token = sign_jwt(claims_of("https://elsewhere.example"), OTHER_KEY)
    assert [700211] == json_of(ask(form(HOST, PATH, assertion_form(token))))["error_codes"]


def test_a_forged_token_is_refused(dev: DevVaultData, ask: Ask) -> None:
    """All claims match, but another key signed it."""
    assertion(dev)
    token = sign_jwt(claims_of(CLUSTER_ISSUER), OTHER_KEY)
    assert [50027] == json_of(ask(form(HOST, PATH, assertion_form(token))))["error_codes"]


def test_an_issuer_whose_keys_are_unknown_is_refused(dev: DevVaultData, ask: Ask) -> None:
    """A federated credential alone does not make its issuer trusted."""
    issuer = "https://elsewhere.example"
    dev.identities.add_federated_credential(
        FederatedCredential("app", issuer, SUBJECT, EXCHANGE_AUDIENCE)
    )
    token = sign_jwt(claims_of(issuer), OTHER_KEY)
    assert [50166] == json_of(ask(form(HOST, PATH, assertion_form(token))))["error_codes"]


def test_clients_discover_the_token_endpoint(ask: Ask) -> None:
    """Of the host that they asked, with the aliases of its cloud."""
    query = {"authorization_endpoint": f"https://{HOST}/t1/oauth2/v2.0/authorize"}
    found = json_of(ask(call("GET", HOST, "/common/discovery/instance", query=query)))
    endpoint = found["tenant_discovery_endpoint"].removeprefix(f"https://{HOST}")
    assert HOST in found["metadata"][0]["aliases"]
    configuration = json_of(ask(call("GET", HOST, endpoint)))
    assert f"https://{HOST}{PATH}" == configuration["token_endpoint"]
    keys = configuration["jwks_uri"].removeprefix(f"https://{HOST}")
    assert "RSA" == json_of(ask(call("GET", HOST, keys)))["keys"][0]["kty"]


def test_the_configuration_of_an_unknown_tenant_is_refused(ask: Ask) -> None:
    """With the same code as its token endpoint."""
    answer = ask(call("GET", HOST, "/nowhere/v2.0/.well-known/openid-configuration"))
    assert [90002] == json_of(answer)["error_codes"]


def test_other_endpoints_are_not_there(ask: Ask) -> None:
    """Unsupported requests are rejected."""
    assert 404 == ask(call("GET", HOST, "/t1/oauth2/v2.0/authorize")).status


def test_a_system_assigned_identity_signs_in_through_imds_only(dev: DevVaultData, ask: Ask) -> None:
    """The token endpoint does not know it."""
    machine = dev.identities.ensure_system_assigned()
    fields = SECRET_FORM | {"client_id": machine.client_id}
    path = f"/{machine.tenant}/oauth2/v2.0/token"
    assert [700016] == json_of(ask(form(HOST, path, fields)))["error_codes"]
