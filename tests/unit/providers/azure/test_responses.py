"""Responses: the documents of the vault's API, and answers of any other kind."""

from __future__ import annotations

import json

import msgspec
import pytest

from keyferry.errors import VaultError
from keyferry.providers.azure.responses import (
    CertificateDocument,
    KeyDocument,
    KeyVaultSecret,
    LeafCertificate,
    ListedVersion,
    PageDocument,
    Properties,
    PublicKey,
    SecretDocument,
)
from keyferry.records import replace

Document = SecretDocument | KeyDocument | CertificateDocument | PageDocument


def read(document: type[Document], answer: object) -> object:
    text = json.dumps(answer).encode()
    return msgspec.json.decode(text, type=document).checked()


def test_secret_is_parsed() -> None:
    """The version is the last part of the ID; a `kid` marks the secret behind a certificate."""
    answer = {"value": "x", "id": "https://v/secrets/n/v1/", "kid": "k", "contentType": "t"}
    assert KeyVaultSecret("x", "v1", backs_certificate=True, properties=Properties("t")) == read(
        SecretDocument, answer
    )
    plain = {"value": "", "id": "https://v/secrets/n/v1", "kid": ""}
    assert KeyVaultSecret("", "v1") == read(SecretDocument, plain)


def test_key_is_parsed() -> None:
    """Its numbers are base64url without padding."""
    answer = {
        "key": {"kid": "https://v/keys/n/v1", "kty": "EC", "crv": "P-256", "x": "AQ", "y": "_-8"}
    }
    expected = PublicKey("EC", "P-256", {"x": b"\1", "y": b"\xff\xef"}, "v1")
    assert expected == read(KeyDocument, answer)


def test_certificate_is_parsed() -> None:
    """Its bytes are base64."""
    answer = {"cer": "dGVzdA==", "id": "https://v/certificates/n/v1"}
    assert LeafCertificate(b"test", "v1") == read(CertificateDocument, answer)


def test_list_is_parsed() -> None:
    """Keys are identified by their `kid`; missing attributes are None."""
    answer = {
        "value": [
            {"id": "https://v/secrets/n/v1", "attributes": {"enabled": True, "created": 5}},
            {"kid": "https://v/keys/n/v2"},
        ]
    }
    expected = (ListedVersion("v1", True, 5), ListedVersion("v2", None, 0))
    assert expected == read(PageDocument, answer)


DESCRIBED = {
    "attributes": {"enabled": True, "exp": 1_900_000_000, "nbf": 5},
    "tags": {"owner": "shop"},
}
PROPERTIES = Properties("text/plain", {"owner": "shop"}, 1_900_000_000, 5)


@pytest.mark.parametrize(
    ("document", "answer", "content_type"),
    [
        (SecretDocument, {"value": "x", "id": "https://v/secrets/n/v1"}, "text/plain"),
        (KeyDocument, {"key": {"kid": "https://v/keys/n/v1"}}, ""),
        (
            CertificateDocument,
            {
                "cer": "",
                "id": "https://v/certificates/n/v1",
                "policy": {"secret_props": {"contentType": "text/plain"}},
            },
            "text/plain",
        ),
    ],
)
def test_properties_are_parsed(
    document: type[Document], answer: dict[str, object], content_type: str
) -> None:
    """For every type; a key has no content type, a certificate has the one of its secret."""
    said = DESCRIBED | answer | ({"contentType": "text/plain"} if "value" in answer else {})
    found = read(document, said)
    assert isinstance(found, KeyVaultSecret | PublicKey | LeafCertificate)
    assert replace(PROPERTIES, content_type=content_type) == found.properties
    bare = read(document, {key: text for key, text in answer.items() if key != "policy"})
    assert isinstance(bare, KeyVaultSecret | PublicKey | LeafCertificate)
    assert Properties() == bare.properties


def test_list_has_properties_without_values() -> None:
    """An identity that may list but not read gets them too."""
    item = {"id": "https://v/secrets/n/v1", "contentType": "text/plain"}
    listed = ListedVersion("v1", True, 0, PROPERTIES)
    assert (listed,) == read(PageDocument, {"value": [DESCRIBED | item]})


@pytest.mark.parametrize("time", [-1, 253_402_300_800, 2**62, None])
def test_invalid_time_is_ignored(time: int | None) -> None:
    """An unusual attribute does not prevent delivery."""
    answer = {"value": "x", "id": "https://v/secrets/n/v1", "attributes": {"exp": time}}
    assert KeyVaultSecret("x", "v1") == read(SecretDocument, answer)


@pytest.mark.parametrize(
    ("document", "answer", "words"),
    [
        (SecretDocument, {"id": "https://v/secrets/n/v1"}, "secret value is nil"),
        (SecretDocument, {"value": "canary"}, "secret id is nil"),
        (SecretDocument, {"value": "canary", "id": "https://v/a b"}, "secret id is nil"),
        (KeyDocument, {}, "key value is nil"),
        (KeyDocument, {"key": {"kty": "RSA"}}, "key id is nil"),
        (CertificateDocument, {"id": "https://v/certificates/n/v1"}, "certificate value is nil"),
        (CertificateDocument, {"cer": "dGVzdA=="}, "certificate id is nil"),
        (PageDocument, {"value": [{}]}, "version id is nil"),
    ],
)
def test_missing_field_is_an_error(document: type[Document], answer: object, words: str) -> None:
    """Upstream's texts."""
    with pytest.raises(VaultError, match=words):
        read(document, answer)
