"""keyferry_devvault.keyvault.objects: keys and certificates as the REST API 7.4 serves them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificates

from keyferry_devvault.crypto.jwt import JwtClaims
from keyferry_devvault.crypto.key_material import CURVES, generate_key
from keyferry_devvault.entra.access_tokens import AccessTokens
from keyferry_devvault.http_types import Response
from keyferry_devvault.keyvault.objects import DEVELOPMENT_CA_ISSUER, ObjectsApi
from keyferry_devvault.keyvault.secrets import SecretsApi
from keyferry_devvault.keyvault.vault import Caller
from keyferry_devvault.model import Permission
from keyferry_devvault.storage.data import DevVaultData
from tests.fakes.certificates import issue_certificate, new_ec_key
from tests.unit.devvault.calls import NOW, PUBLIC_VAULT, call, json_of, outcome

Ask = Callable[..., Response]
MADE = issue_certificate("test.domain.com", new_ec_key())


@pytest.fixture
def ask(dev: DevVaultData) -> Ask:
    """Vault contoso, and a caller who may do everything that `allowed` says."""
    dev.vaults.ensure("contoso")
    keys = ObjectsApi(dev.vault_keys, dev.certificates)
    certificates = ObjectsApi(dev.certificates.certificates, dev.certificates)
    secrets = SecretsApi(dev.secrets)
    stations: dict[str, ObjectsApi | SecretsApi] = {
        "keys": keys,
        "certificates": certificates,
        "secrets": secrets,
    }
    identity = dev.identities.add_managed("m")
    tokens = AccessTokens(dev.signing_keys)
    token = tokens.issue(identity, "https://vault.azure.net", now=NOW, lifetime=60)
    claims = tokens.validate(
        token, audience="https://vault.azure.net", tenant=identity.tenant, now=NOW
    )
    assert isinstance(claims, JwtClaims)

    def answer(
        method: str, path: str, body: object = None, allowed: frozenset[Permission] | None = None
    ) -> Response:
        request = call(
            method,
            PUBLIC_VAULT,
            path,
            query={"api-version": "7.4"},
            body=b"" if body is None else json.dumps(body).encode(),
        )
        permissions = frozenset(Permission) if allowed is None else allowed
        caller = Caller("contoso", claims, permissions, dev.hints)
        station = stations[path.split("/")[1].removeprefix("deleted")]
        return outcome(lambda: station.handle(request, caller))

    return answer


def ok(answer: Response) -> Any:
    assert answer.status in (200, 202)
    return json_of(answer)


def error_of(answer: Response) -> tuple[int, str, str | None]:
    error = json_of(answer)["error"]
    return answer.status, error["code"], error.get("innererror", {}).get("code")


@pytest.mark.parametrize("kind", ["RSA", "RSA-HSM", "EC", "EC-HSM"])
def test_a_key_is_made_and_got(ask: Ask, kind: str) -> None:
    """The same bundle both times, without a private number."""
    made = ok(ask("POST", "/keys/k/create", {"kty": kind}))
    assert made == ok(ask("GET", "/keys/k")) == ok(ask("GET", made["key"]["kid"][31:]))
    assert kind == made["key"]["kty"]
    assert {"d", "p", "q", "dp", "dq", "qi", "k"}.isdisjoint(made["key"])


@pytest.mark.parametrize("curve", list(CURVES))
def test_a_key_is_on_the_curve_asked_for(ask: Ask, curve: str) -> None:
    """secp256k1 is called P-256K."""
    assert curve == ok(ask("POST", "/keys/k/create", {"kty": "EC", "crv": curve}))["key"]["crv"]


def jwk(key: Any) -> dict[str, str]:
    """A private key as clients import it."""

    def text(number: int, length: int = 0) -> str:
        content = number.to_bytes(length or (number.bit_length() + 7) // 8)
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    numbers = key.private_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        public = {"n": numbers.public_numbers.n, "e": numbers.public_numbers.e}
        private = {"d": numbers.d, "p": numbers.p, "q": numbers.q}
        return {"kty": "RSA"} | {name: text(value) for name, value in (public | private).items()}
    point = {"x": numbers.public_numbers.x, "y": numbers.public_numbers.y}
    numbered = point | {"d": numbers.private_value}
    reported = {name: text(value, 32) for name, value in numbered.items()}
    return {"kty": "EC", "crv": "P-256"} | reported


@pytest.mark.parametrize("kind", ["RSA", "EC"])
def test_a_key_is_imported(ask: Ask, kind: str) -> None:
    """Its public numbers are those that were sent."""
    sent = jwk(generate_key(kind))
    got = ok(ask("PUT", "/keys/k", {"key": sent}))["key"]
    names = ("n", "e") if kind == "RSA" else ("x", "y", "crv")
    assert [sent[name] for name in names] == [got[name] for name in names]


@pytest.mark.parametrize(
    "body",
    [
        {"kty": "oct"},
        {"kty": "RSA", "key_size": 512},
        {"kty": "EC", "crv": "P-1"},
        {},
        [],
    ],
)
def test_a_key_that_cannot_be_is_refused(ask: Ask, body: object) -> None:
    """With a status of its own, and nothing is stored."""
    assert (400, "BadParameter", None) == error_of(ask("POST", "/keys/k/create", body))
    assert (404, "KeyNotFound", None) == error_of(ask("GET", "/keys/k"))


def test_a_disabled_version_is_not_given(ask: Ask) -> None:
    """Lists still show it."""
    version = ok(ask("POST", "/keys/k/create", {"kty": "EC"}))["key"]["kid"].rpartition("/")[2]
    changed = ok(ask("PATCH", f"/keys/k/{version}", {"attributes": {"enabled": False}}))
    assert changed["attributes"]["enabled"] is False
    assert (403, "Forbidden", "KeyDisabled") == error_of(ask("GET", "/keys/k"))
    (item,) = ok(ask("GET", "/keys/k/versions"))["value"]
    assert changed["key"]["kid"] == item["kid"]


@pytest.mark.parametrize("kind", ["keys", "certificates"])
def test_lists_come_in_pages(ask: Ask, dev: DevVaultData, kind: str) -> None:
    """Of 25, each version once."""
    table = dev.vault_keys if kind == "keys" else dev.certificates.certificates
    ask("POST", "/keys/x/create", {"kty": "EC"})
    ask("POST", "/certificates/x/import", {"value": MADE.pkcs12().decode()})
    document = table.get("contoso", "x").document
    for number in range(30):
        table.put("contoso", "x", f"{number:032x}", document)
    page = ok(ask("GET", f"/{kind}/x/versions"))
    assert 25 == len(page["value"])
    assert "$skiptoken" in page["nextLink"].replace("%24", "$")


def test_what_is_deleted_can_be_recovered_or_purged(ask: Ask) -> None:
    """Its name is taken until then."""
    ask("POST", "/keys/k/create", {"kty": "EC"})
    assert "recoveryId" in ok(ask("DELETE", "/keys/k"))
    assert (404, "KeyNotFound", None) == error_of(ask("GET", "/keys/k"))
    taken = (409, "Conflict", "ObjectIsDeletedButRecoverable")
    assert taken == error_of(ask("POST", "/keys/k/create", {"kty": "EC"}))
    ok(ask("POST", "/deletedkeys/k/recover"))
    ok(ask("GET", "/keys/k"))
    ok(ask("DELETE", "/keys/k"))
    assert 204 == ask("DELETE", "/deletedkeys/k").status
    ok(ask("POST", "/keys/k/create", {"kty": "EC"}))


@pytest.mark.parametrize("form", ["application/x-pem-file", "application/x-pkcs12"])
@pytest.mark.parametrize("issuer", ["Self", DEVELOPMENT_CA_ISSUER])
def test_a_certificate_is_made_with_its_key_and_its_secret(
    ask: Ask, form: str, issuer: str
) -> None:
    """All three have one version; the secret names the key, and holds the chain."""
    policy = {
        "key_props": {"kty": "EC", "crv": "P-384"},
        "secret_props": {"contentType": form},
        "x509_props": {"subject": "CN=web", "sans": {"dns_names": ["web.test"]}},
        "issuer": {"name": issuer},
    }
    assert "completed" == ok(ask("POST", "/certificates/web/create", {"policy": policy}))["status"]
    bundle, secret = ok(ask("GET", "/certificates/web")), ok(ask("GET", "/secrets/web"))
    key = ok(ask("GET", "/keys/web"))
    assert (bundle["kid"], bundle["sid"]) == (key["key"]["kid"], secret["id"])
    assert (bundle["kid"], form, True) == (secret["kid"], secret["contentType"], secret["managed"])
    leaf = load_der_x509_certificate(base64.b64decode(bundle["cer"]))
    found = _certificates(secret["value"], form)
    assert leaf == found[0]
    assert (1 if issuer == "Self" else 2) == len(found)
    leaf.verify_directly_issued_by(found[-1])


def _certificates(value: str, form: str) -> list[Any]:
    if form == "application/x-pem-file":
        load_pem_private_key(value.encode(), None)
        return load_pem_x509_certificates(value.encode())
    _, leaf, others = pkcs12.load_key_and_certificates(base64.b64decode(value), None)
    return [leaf, *others]


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (MADE.pkcs12().decode(), "application/x-pkcs12"),
        ((MADE.key_pem + MADE.pem).decode(), "application/x-pem-file"),
        ((MADE.pem + MADE.key_pem).decode(), "application/x-pem-file"),
    ],
)
def test_a_certificate_is_imported_in_its_own_form(ask: Ask, value: str, form: str) -> None:
    """Unless the policy says another one."""
    got = ok(ask("POST", "/certificates/web/import", {"value": value}))
    assert MADE.certificate == load_der_x509_certificate(base64.b64decode(got["cer"]))
    assert form == ok(ask("GET", "/secrets/web"))["contentType"]


@pytest.mark.parametrize("value", ["", "x", MADE.pem.decode(), MADE.key_pem.decode()])
def test_what_is_no_certificate_with_its_key_is_refused(ask: Ask, value: str) -> None:
    """Nothing is stored then."""
    answer = ask("POST", "/certificates/web/import", {"value": value})
    assert (400, "BadParameter", None) == error_of(answer)
    assert (404, "SecretNotFound", None) == error_of(ask("GET", "/secrets/web"))


def test_a_certificate_goes_with_its_key_and_its_secret(ask: Ask) -> None:
    """Deleted, recovered, disabled: the three are one."""
    value = {"value": MADE.pkcs12().decode()}
    version = ok(ask("POST", "/certificates/web/import", value))["id"].rpartition("/")[2]
    paths = ("/certificates/web", "/keys/web", "/secrets/web")
    ok(ask("DELETE", "/certificates/web"))
    assert [404] * 3 == [ask("GET", path).status for path in paths]
    ok(ask("POST", "/deletedcertificates/web/recover"))
    assert [200] * 3 == [ask("GET", path).status for path in paths]
    ok(ask("PATCH", f"/certificates/web/{version}", {"attributes": {"enabled": False}}))
    assert [403] * 3 == [ask("GET", path).status for path in paths]


@pytest.mark.parametrize("kind", ["keys", "certificates"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/x"), ("GET", "/x/versions"), ("DELETE", "/x"), ("POST", "/x/create")],
)
def test_nothing_is_done_without_permission(ask: Ask, kind: str, method: str, path: str) -> None:
    """The refusal names the kind of object."""
    answer = ask(method, f"/{kind}{path}", {}, frozenset())
    assert (403, "Forbidden", "AccessDenied") == error_of(answer)
    assert f"does not have {kind} " in json_of(answer)["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/certificates/x", 405),
        ("POST", "/keys/x/sign", 405),
        ("PATCH", "/keys", 405),
        ("GET", "/keys/x/y/z", 405),
        ("GET", "/keys/a_b", 400),
    ],
)
def test_what_is_not_played_is_refused(ask: Ask, method: str, path: str, status: int) -> None:
    """Not answered with something else."""
    assert status == ask(method, path, {}).status
