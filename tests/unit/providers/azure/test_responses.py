"""Responses: the documents of the vault's API, and answers of any other kind."""

from __future__ import annotations

import json
from dataclasses import replace

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

Document = SecretDocument | KeyDocument | CertificateDocument | PageDocument


def read(document: type[Document], answer: object) -> object:
    text = json.dumps(answer).encode()
    return msgspec.json.decode(text, type=document).checked()


def test_a_secret_is_read() -> None:
    """The version is the last part of the id; a kid tells that it is behind a certificate."""
    answer = {"value": "x", "id": "https://v/secrets/n/v1/", "kid": "k", "contentType": "t"}
    assert KeyVaultSecret("x", "v1", backs_certificate=True, properties=Properties("t")) == read(
        SecretDocument, answer
    )
    plain = {"value": "", "id": "https://v/secrets/n/v1", "kid": ""}
    assert KeyVaultSecret("", "v1") == read(SecretDocument, plain)


def test_a_key_is_read() -> None:
    """Its numbers are base64url without padding."""
    answer = {
        "key": {"kid": "https://v/keys/n/v1", "kty": "EC", "crv": "P-256", "x": "AQ", "y": "_-8"}
    }
    expected = PublicKey("EC", "P-256", {"x": b"\1", "y": b"\xff\xef"}, "v1")
    assert expected == read(KeyDocument, answer)


def test_a_certificate_is_read() -> None:
    """Its bytes are base64."""
    answer = {"cer": "dGVzdA==", "id": "https://v/certificates/n/v1"}
    assert LeafCertificate(b"test", "v1") == read(CertificateDocument, answer)


def test_a_list_is_read() -> None:
    """Of keys by their kid; what has no attributes is told so."""
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
def test_what_is_said_beside_the_value_is_read(
    document: type[Document], answer: dict[str, object], content_type: str
) -> None:
    """The same of every type; a key has no content type, a certificate that of its secret."""
    said = DESCRIBED | answer | ({"contentType": "text/plain"} if "value" in answer else {})
    found = read(document, said)
    assert isinstance(found, KeyVaultSecret | PublicKey | LeafCertificate)
    assert replace(PROPERTIES, content_type=content_type) == found.properties
    bare = read(document, {key: text for key, text in answer.items() if key != "policy"})
    assert isinstance(bare, KeyVaultSecret | PublicKey | LeafCertificate)
    assert Properties() == bare.properties


def test_a_list_says_it_without_values() -> None:
    """So that whoever may list and not read can know it too."""
    item = {"id": "https://v/secrets/n/v1", "contentType": "text/plain"}
    listed = ListedVersion("v1", True, 0, PROPERTIES)
    assert (listed,) == read(PageDocument, {"value": [DESCRIBED | item]})


@pytest.mark.parametrize("time", [-1, 253_402_300_800, 2**62, None])
def test_a_time_that_no_calendar_has_is_none(time: int | None) -> None:
    """An odd attribute is no reason to deliver nothing."""
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
def test_what_is_missing_is_named(document: type[Document], answer: object, words: str) -> None:
    """In upstream's words."""
    with pytest.raises(VaultError, match=words):
        read(document, answer)
