from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest

from keyferry_devvault.clouds import VaultHost, parse_host
from keyferry_devvault.entra.access_tokens import AccessTokens
from keyferry_devvault.http_types import Response
from keyferry_devvault.keyvault.secrets import SecretsApi
from keyferry_devvault.keyvault.vault import KeyVaultApi
from keyferry_devvault.model import Permission, SecretAttributes
from keyferry_devvault.storage.data import DevVaultData
from tests.unit.devvault.calls import NOW, PUBLIC_VAULT, call, json_of, outcome

Ask = Callable[..., Response]


@pytest.fixture
def ask(dev: DevVaultData) -> Ask:
    """Vault contoso, and an identity that may do everything there; its token is the default."""
    dev.vaults.ensure("contoso")
    identity = dev.identities.add_managed("m")
    dev.policies.set_permissions("contoso", "m", list(Permission))
    tokens = AccessTokens(dev.signing_keys)
    token = tokens.issue(identity, "https://vault.azure.net", now=NOW, lifetime=60)
    secrets = SecretsApi(dev.secrets)
    vault = KeyVaultApi(dev, tokens, {"secrets": secrets.handle, "deletedsecrets": secrets.handle})

    def answer(
        method: str,
        path: str,
        body: object = None,
        *,
        host: str = PUBLIC_VAULT,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        now: float = NOW,
    ) -> Response:
        request = call(
            method,
            host,
            path,
            query={"api-version": "7.4"} if query is None else query,
            headers={"authorization": f"Bearer {token}"} if headers is None else headers,
            body=b"" if body is None else json.dumps(body).encode(),
            now=now,
        )
        station = parse_host(host)
        assert isinstance(station, VaultHost)
        return outcome(lambda: vault.handle(request, station))

    return answer


def error_of(answer: Response) -> tuple[int, str, str | None]:
    error = json_of(answer)["error"]
    return answer.status, error["code"], error.get("innererror", {}).get("code")


def test_what_is_set_is_got_in_the_shape_of_key_vault(ask: Ask) -> None:
    """Both answers are the same bundle."""
    body = {
        "value": "s3cret",
        "contentType": "text/plain",
        "tags": {"a": "b"},
        "attributes": {"enabled": True, "exp": 1_900_000_000, "nbf": 1_600_000_000},
    }
    was_set, got = ask("PUT", "/secrets/db", body), ask("GET", "/secrets/db/")
    bundle = json_of(got)
    version = bundle["id"].rpartition("/")[2]
    assert json_of(was_set) == bundle
    assert bundle == {
        "value": "s3cret",
        "contentType": "text/plain",
        "id": f"https://{PUBLIC_VAULT}/secrets/db/{version}",
        "attributes": {
            "enabled": True,
            "nbf": 1_600_000_000,
            "exp": 1_900_000_000,
            "created": int(NOW),
            "updated": int(NOW),
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": 90,
        },
        "tags": {"a": "b"},
    }
    assert bundle == json_of(ask("GET", f"/secrets/db/{version}"))
    assert "m" == got.principal


def test_a_plain_secret_has_neither_content_type_nor_tags(ask: Ask) -> None:
    """The real vault leaves out what was not set."""
    ask("PUT", "/secrets/db", {"value": ""})
    assert {"value", "id", "attributes"} == set(json_of(ask("GET", "/secrets/db")))


def test_the_version_without_id_is_the_latest(ask: Ask) -> None:
    """Older ones are got by their id."""
    first = json_of(ask("PUT", "/secrets/db", {"value": "a"}))["id"]
    ask("PUT", "/secrets/db", {"value": "b"})
    assert "b" == json_of(ask("GET", "/secrets/db"))["value"]
    assert "a" == json_of(ask("GET", urlsplit(first).path))["value"]


def test_a_missing_secret_or_version_is_not_found(ask: Ask) -> None:
    """Both have the code that clients look for."""
    ask("PUT", "/secrets/db", {"value": "a"})
    for path in ("/secrets/other", f"/secrets/db/{'0' * 32}", "/secrets/other/versions"):
        assert (404, "SecretNotFound", None) == error_of(ask("GET", path))


def test_a_disabled_version_is_forbidden_and_the_others_are_not(ask: Ask) -> None:
    """There is no falling back to an older one."""
    ask("PUT", "/secrets/db", {"value": "a"})
    latest = json_of(ask("PUT", "/secrets/db", {"value": "b"}))["id"]
    patched = ask("PATCH", urlsplit(latest).path, {"attributes": {"enabled": False}})
    assert "value" not in json_of(patched)
    assert (403, "Forbidden", "SecretDisabled") == error_of(ask("GET", "/secrets/db"))
    ask("PATCH", "/secrets/db", {"attributes": {"enabled": True}, "tags": {"x": "y"}})
    assert {"x": "y"} == json_of(ask("GET", "/secrets/db"))["tags"]


def test_an_expired_secret_is_still_handed_out(ask: Ask) -> None:
    """Expiry is a note for clients, as in the real vault."""
    ask("PUT", "/secrets/db", {"value": "a", "attributes": {"exp": 1}})
    assert 200 == ask("GET", "/secrets/db").status


def follow(ask: Ask, path: str, size: int) -> list[list[str]]:
    """The names of all pages."""
    pages, query = [], {"api-version": "7.4", "maxresults": str(size)}
    while True:
        body = json_of(ask("GET", path, query=query))
        pages.append([item["id"].rpartition("/")[2] for item in body["value"]])
        if body["nextLink"] is None:
            return pages
        link = urlsplit(body["nextLink"])
        assert (PUBLIC_VAULT, path) == (link.netloc, link.path)
        query = dict(parse_qsl(link.query))


def test_lists_come_in_pages_that_are_linked(dev: DevVaultData, ask: Ask) -> None:
    """Every secret comes once; the last page has no link."""
    for number in range(7):
        dev.secrets.set("contoso", f"s{number}", "x")
    assert [["s0", "s1", "s2"], ["s3", "s4", "s5"], ["s6"]] == follow(ask, "/secrets", 3)
    assert [7] == [len(names) for names in follow(ask, "/secrets", 7)]
    assert "x" not in str(json_of(ask("GET", "/secrets"))["value"][0].get("value"))


def test_a_page_holds_25_at_most(dev: DevVaultData, ask: Ask) -> None:
    """That is also what is sent when the client says nothing."""
    for number in range(26):
        dev.secrets.set("contoso", f"s{number}", "x")
    assert 25 == len(json_of(ask("GET", "/secrets"))["value"])
    for size in ("0", "26", "-1", "x", ""):
        query = {"api-version": "7.4", "maxresults": size}
        assert (400, "BadParameter", None) == error_of(ask("GET", "/secrets", query=query))


@pytest.mark.parametrize("token", ["x", "!!", "eA=="])
def test_a_malformed_skip_token_is_refused(ask: Ask, token: str) -> None:
    """Only a version of this vault is accepted."""
    query = {"api-version": "7.4", "$skiptoken": token}
    assert (400, "BadParameter", None) == error_of(ask("GET", "/secrets", query=query))


def test_versions_are_listed_in_pages_by_id(dev: DevVaultData, ask: Ask) -> None:
    """Not by age: a client that needs an order has to make it."""
    ids = sorted(dev.secrets.set("contoso", "db", str(number)).version for number in range(5))
    assert [ids[:2], ids[2:4], ids[4:]] == follow(ask, "/secrets/db/versions", 2)


def test_disabled_secrets_are_listed(dev: DevVaultData, ask: Ask) -> None:
    """A list shows attributes, and reads no value."""
    dev.secrets.set("contoso", "db", "x", SecretAttributes(enabled=False))
    (item,) = json_of(ask("GET", "/secrets"))["value"]
    assert (False, f"https://{PUBLIC_VAULT}/secrets/db") == (
        item["attributes"]["enabled"],
        item["id"],
    )


def test_a_deleted_secret_can_be_recovered_or_purged(ask: Ask) -> None:
    """In between its name is taken."""
    ask("PUT", "/secrets/db", {"value": "a"})
    deleted = json_of(ask("DELETE", "/secrets/db"))
    assert f"https://{PUBLIC_VAULT}/deletedsecrets/db" == deleted["recoveryId"]
    assert 90 * 86_400 == deleted["scheduledPurgeDate"] - deleted["deletedDate"]
    assert (404, "SecretNotFound", None) == error_of(ask("GET", "/secrets/db"))
    assert (409, "Conflict", "ObjectIsDeletedButRecoverable") == error_of(
        ask("PUT", "/secrets/db", {"value": "b"})
    )
    assert 1 == len(json_of(ask("GET", "/deletedsecrets"))["value"])
    assert deleted == json_of(ask("GET", "/deletedsecrets/db"))
    assert 200 == ask("POST", "/deletedsecrets/db/recover").status
    assert "a" == json_of(ask("GET", "/secrets/db"))["value"]
    ask("DELETE", "/secrets/db")
    assert 204 == ask("DELETE", "/deletedsecrets/db").status
    assert (404, "SecretNotFound", None) == error_of(ask("GET", "/deletedsecrets/db"))


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("GET", "/secrets/db", Permission.GET),
        ("GET", "/secrets", Permission.LIST),
        ("GET", "/secrets/db/versions", Permission.LIST),
        ("PUT", "/secrets/db", Permission.SET),
        ("PATCH", "/secrets/db", Permission.SET),
        ("DELETE", "/secrets/db", Permission.DELETE),
        ("GET", "/deletedsecrets", Permission.LIST),
        ("GET", "/deletedsecrets/db", Permission.GET),
        ("POST", "/deletedsecrets/db/recover", Permission.RECOVER),
        ("DELETE", "/deletedsecrets/db", Permission.PURGE),
    ],
)
def test_every_operation_needs_its_permission(
    dev: DevVaultData, ask: Ask, method: str, path: str, needed: Permission
) -> None:
    """All the others together do not help."""
    dev.secrets.set("contoso", "db", "canary")
    dev.policies.set_permissions("contoso", "m", set(Permission) - {needed})
    answer = ask(method, path, {"value": "x"})
    assert (403, "Forbidden", "AccessDenied") == error_of(answer)
    assert f"does not have secrets {needed} permission" in json_of(answer)["error"]["message"]
    assert "keyferry devvault policy contoso m" in answer.note


def test_no_policy_means_no_access(dev: DevVaultData, ask: Ask) -> None:
    """It is rejected before the lookup, so it reveals nothing about existing secrets."""
    dev.policies.set_permissions("contoso", "m", [])
    dev.secrets.set("contoso", "db", "x")
    for name in ("db", "other"):
        assert (403, "Forbidden", "AccessDenied") == error_of(ask("GET", f"/secrets/{name}"))


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer x.y.z"]
)
@pytest.mark.parametrize(
    ("host", "login", "resource"),
    [
        (PUBLIC_VAULT, "login.microsoftonline.com", "https://vault.azure.net"),
        ("contoso.vault.azure.cn", "login.chinacloudapi.cn", "https://vault.azure.cn"),
        (
            "contoso.vault.usgovcloudapi.net",
            "login.microsoftonline.us",
            "https://vault.usgovcloudapi.net",
        ),
    ],
)
def test_without_a_good_token_the_vault_says_where_to_get_one(
    dev: DevVaultData, ask: Ask, authorization: str | None, host: str, login: str, resource: str
) -> None:
    """The challenge names the token endpoint and the resource of the vault's own cloud."""
    headers = {} if authorization is None else {"authorization": authorization}
    answer = ask("GET", "/secrets/db", host=host, headers=headers)
    assert (401, "Unauthorized", None) == error_of(answer)
    tenant = dev.policies.tenant("contoso")
    assert (
        f'Bearer authorization="https://{login}/{tenant}", resource="{resource}"'
        == answer.headers["WWW-Authenticate"]
    )


def test_expired_token_gets_a_new_challenge(ask: Ask) -> None:
    """It was good a minute ago."""
    ask("PUT", "/secrets/db", {"value": "a"})
    assert 200 == ask("GET", "/secrets/db", now=NOW + 59).status
    assert 401 == ask("GET", "/secrets/db", now=NOW + 60).status


@pytest.mark.parametrize("query", [{}, {"api-version": ""}, {"api-version": "1.0"}])
def test_an_api_version_is_required(ask: Ask, query: dict[str, str]) -> None:
    """One that the vault knows."""
    assert (400, "BadParameter", None) == error_of(ask("GET", "/secrets", query=query))


@pytest.mark.parametrize("name", ["a_b", "a.b", "é", "x" * 128])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_an_impossible_name_is_refused(ask: Ask, method: str, name: str) -> None:
    """1 to 127 letters, digits and hyphens."""
    assert (400, "BadParameter", None) == error_of(ask(method, f"/secrets/{name}", {"value": "x"}))


@pytest.mark.parametrize("body", [None, [], {}, {"value": 1}, {"value": "x", "tags": {"a": 1}}])
def test_a_body_that_is_no_secret_is_refused_without_quoting_it(ask: Ask, body: object) -> None:
    """Nothing is stored."""
    answer = ask("PUT", "/secrets/db", body)
    assert (400, "BadParameter", None) == error_of(answer)
    assert 404 == ask("GET", "/secrets/db").status


def test_a_value_longer_than_25_kib_is_refused(ask: Ask) -> None:
    """Counted in bytes."""
    assert 200 == ask("PUT", "/secrets/db", {"value": "x" * 25_600}).status
    assert (400, "BadParameter", None) == error_of(
        ask("PUT", "/secrets/db", {"value": "x" * 25_601})
    )


def test_an_unknown_vault_is_not_found(ask: Ask) -> None:
    """The log says how to create it."""
    answer = ask("GET", "/secrets/db", host="nowhere.vault.azure.net")
    assert (404, "VaultNotFound", None) == error_of(answer)
    assert "keyferry devvault set nowhere" in answer.note


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/keys/k", 404),
        ("GET", "/", 404),
        ("POST", "/secrets/db", 405),
        ("GET", "/secrets/a/b/c", 405),
        ("PUT", "/deletedsecrets/db", 405),
    ],
)
def test_what_is_not_played_is_an_error(ask: Ask, method: str, path: str, status: int) -> None:
    """Unsupported requests are rejected."""
    assert status == ask(method, path).status
