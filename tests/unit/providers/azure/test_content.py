"""keyferry.providers.azure.content: from what a vault holds to files."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from keyferry.errors import ObjectUnusableError
from keyferry.providers.azure.content import PEM_TYPE, PKCS12_TYPE, Rendered, render
from keyferry.providers.azure.objects import KeyVaultObject, parse_objects
from keyferry.providers.azure.params import BundleOptions
from keyferry.providers.azure.responses import (
    KeyVaultSecret,
    LeafCertificate,
    Properties,
    PublicKey,
)
from tests.fakes.certificates import issue_certificate, new_ec_key, new_rsa_key

ROOT = issue_certificate("root", new_rsa_key(), is_ca=True)
LEAF = issue_certificate("test.domain.com", new_ec_key(), ROOT)
BUNDLE = LEAF.key_pem + LEAF.pem + ROOT.pem
PFX = LEAF.pkcs12(ROOT.certificate).decode()
SEPARATE = BundleOptions(separate_files=True)


def wanted(type_: str = "secret", **fields: str) -> KeyVaultObject:
    """One entry."""
    entry = json.dumps({"objectName": "web", "objectType": type_} | fields)
    (found,) = parse_objects(json.dumps({"array": [entry]}))
    return found


def behind_certificate(value: str, content_type: str) -> KeyVaultSecret:
    return KeyVaultSecret(value, "v1", backs_certificate=True, properties=Properties(content_type))


def only(rendered: Rendered) -> bytes:
    ((end, contents),) = rendered.files
    assert "" == end
    return contents


def refused(content: Any, entry: KeyVaultObject, options: BundleOptions | None = None) -> str:
    with pytest.raises(ObjectUnusableError) as caught:
        render(content, entry, options or BundleOptions())
    assert caught.value.__cause__ is None
    assert caught.value.remedy
    return caught.value.problem


@pytest.mark.parametrize("content_type", ["", PEM_TYPE, PKCS12_TYPE, "text/plain"])
@pytest.mark.parametrize("format_", ["", "pem", "pfx"])
def test_a_plain_secret_is_its_value(content_type: str, format_: str) -> None:
    """Whatever is said of it: only the secret behind a certificate is looked into."""
    content = KeyVaultSecret("te st\n", "v1", properties=Properties(content_type))
    assert b"te st\n" == only(render(content, wanted(objectFormat=format_), SEPARATE))


def test_pem_is_left_as_it_is() -> None:
    """Its order too, and as pfx as well."""
    text = "Bag Attributes\n" + (ROOT.pem + LEAF.pem + LEAF.key_pem).decode()
    content = behind_certificate(text, PEM_TYPE)
    for format_ in ("pem", "PFX"):
        assert text.encode() == only(render(content, wanted(objectFormat=format_), BundleOptions()))


@pytest.mark.parametrize("format_", ["", "PEM"])
def test_pkcs12_becomes_pem(format_: str) -> None:
    """The key first, then the chain."""
    content = behind_certificate(PFX, PKCS12_TYPE)
    assert BUNDLE == only(render(content, wanted(objectFormat=format_), BundleOptions()))


def test_pkcs12_is_text_as_pfx_and_bytes_as_pkcs12() -> None:
    """The text is verbatim, also when it has line ends in it."""
    text = PFX[:64] + "\n" + PFX[64:]
    content = behind_certificate(text, PKCS12_TYPE)
    binary = base64.b64decode(PFX)
    options = BundleOptions()
    assert text.encode() == only(render(content, wanted(objectFormat="PFX"), options))
    assert binary == only(render(content, wanted(objectFormat="pkcs12"), options))
    decoded = wanted(objectFormat="pfx", objectEncoding="base64")
    assert binary == only(render(content, decoded, options))


@pytest.mark.parametrize(
    ("content", "fields", "combined"),
    [
        (behind_certificate(BUNDLE.decode(), PEM_TYPE), {}, BUNDLE),
        (behind_certificate(PFX, PKCS12_TYPE), {}, BUNDLE),
        (behind_certificate(PFX, PKCS12_TYPE), {"objectFormat": "pfx"}, PFX.encode()),
        (
            behind_certificate(PFX, PKCS12_TYPE),
            {"objectFormat": "pkcs12"},
            base64.b64decode(PFX),
        ),
    ],
)
def test_separate_files_are_certificate_key_and_both(
    content: KeyVaultSecret, fields: dict[str, str], combined: bytes
) -> None:
    """In this order; upstream leaves the first two empty for pfx."""
    expected = ((".crt", LEAF.pem + ROOT.pem), (".key", LEAF.key_pem), ("", combined))
    assert expected == render(content, wanted(**fields), SEPARATE).files


def test_a_missing_part_is_an_empty_file() -> None:
    """A certificate whose key is not exportable has none in its secret."""
    content = behind_certificate(LEAF.pem.decode(), PEM_TYPE)
    expected = ((".crt", LEAF.pem), (".key", b""), ("", LEAF.pem))
    assert expected == render(content, wanted(), SEPARATE).files


def test_a_broken_chain_is_told() -> None:
    """Not refused: some servers need no more."""
    content = behind_certificate(
        LEAF.pkcs12(issue_certificate("other", new_ec_key(), is_ca=True).certificate).decode(),
        PKCS12_TYPE,
    )
    assert not render(content, wanted(), BundleOptions()).complete_chain


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/X-PEM-file", "x\nforged"])
def test_an_unknown_content_type_is_refused(content_type: str) -> None:
    """The words are upstream's, which crashes where there is none at all."""
    shown = content_type.replace("\n", "?")
    problem = refused(behind_certificate("x", content_type), wanted())
    assert f"failed to get certificate. unknown content type '{shown}'" == problem


def test_a_pair_that_does_not_fit_is_refused() -> None:
    """However it is wanted, and before anything is written."""
    other = issue_certificate("test.domain.com", new_ec_key())
    content = behind_certificate((other.key_pem + LEAF.pem).decode(), PEM_TYPE)
    words = "the private key in the object does not belong to any of its certificates"
    assert words == refused(content, wanted())
    assert words == refused(content, wanted(), SEPARATE)
    mixed = pkcs12.serialize_key_and_certificates(
        None, other.key, None, [LEAF.certificate], NoEncryption()
    )
    content = behind_certificate(base64.b64encode(mixed).decode(), PKCS12_TYPE)
    for format_ in ("pem", "pfx", "pkcs12"):
        assert words == refused(content, wanted(objectFormat=format_))


@pytest.mark.parametrize(
    ("content", "fields", "words"),
    [
        (behind_certificate("?", PKCS12_TYPE), {}, "holds neither PEM nor PKCS#12"),
        (behind_certificate("?", PKCS12_TYPE), {"objectFormat": "pkcs12"}, "is not valid base64"),
        (
            behind_certificate(BUNDLE.decode(), PEM_TYPE),
            {"objectFormat": "pkcs12"},
            "stored as PEM",
        ),
        (behind_certificate(PFX, PKCS12_TYPE), {"objectEncoding": "base64"}, "is not valid base64"),
        (
            behind_certificate(BUNDLE.decode(), PEM_TYPE),
            {"objectEncoding": "hex"},
            "is not valid hex",
        ),
        (KeyVaultSecret("x", "v1"), {"objectFormat": "pkcs12"}, "does not belong to a certificate"),
    ],
)
def test_what_cannot_be_delivered_as_asked_is_refused(
    content: KeyVaultSecret, fields: dict[str, str], words: str
) -> None:
    """PEM of a certificate is no base64 text either; upstream says the same."""
    assert words in refused(content, wanted(**fields))


def test_a_certificate_is_wrapped_unread() -> None:
    """Its bytes are not looked at."""
    expected = b"-----BEGIN CERTIFICATE-----\ndGVzdA==\n-----END CERTIFICATE-----\n"
    assert expected == only(render(LeafCertificate(b"test", "v1"), wanted("cert"), SEPARATE))


@pytest.mark.parametrize(
    ("kind", "curve", "words"),
    [
        ("oct", "", "failed to get key. key type 'oct' currently not supported"),
        ("oct-HSM", "", "failed to get key. key type 'oct-HSM' currently not supported"),
        ("", "", "failed to get key. key type '' currently not supported"),
        ("EC", "P-512", "curve P-512 is not supported"),
        ("EC-HSM", "", "curve  is not supported"),
        ("EC", "P-256", "its x and y are no point of its curve"),
    ],
)
def test_a_key_that_has_no_public_pem_is_refused(kind: str, curve: str, words: str) -> None:
    """The words are upstream's."""
    numbers = {"x": b"\1", "y": b"\1"}
    assert words == refused(PublicKey(kind, curve, numbers, "v1"), wanted("key"))


@pytest.mark.parametrize("kind", ["RSA", "RSA-HSM"])
def test_keys_of_an_hsm_are_keys(kind: str) -> None:
    """Their public half is no other."""
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    told = {"n": numbers.n.to_bytes(256), "e": b"\1\0\1"}
    contents = only(render(PublicKey(kind, "", told, "v1"), wanted("key"), BundleOptions()))
    assert contents.startswith(b"-----BEGIN PUBLIC KEY-----\n")
