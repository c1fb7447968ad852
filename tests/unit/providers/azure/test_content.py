"""keyferry.providers.azure.content: from what a vault holds to files."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

from keyferry.errors import ObjectUnusableError
from keyferry.formats.certs.material import parse_material
from keyferry.providers.azure import content as azure_content
from keyferry.providers.azure.content import PEM_TYPE, PKCS12_TYPE, Rendered
from keyferry.providers.azure.objects import KeyVaultObject, parse_objects
from keyferry.providers.azure.params import BundleOptions
from keyferry.providers.azure.responses import (
    Content,
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


def render(content: Content, entry: KeyVaultObject, options: BundleOptions) -> Rendered:
    """Render and parse in one step."""
    return azure_content.render(content, entry, options, parse_material)


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
def test_plain_secret_is_delivered_verbatim(content_type: str, format_: str) -> None:
    """Only the secret behind a certificate is parsed, whatever the content type."""
    content = KeyVaultSecret("te st\n", "v1", properties=Properties(content_type))
    assert b"te st\n" == only(render(content, wanted(objectFormat=format_), SEPARATE))


def test_pem_is_delivered_verbatim() -> None:
    """Also its order, and also with format pfx."""
    text = "Bag Attributes\n" + (ROOT.pem + LEAF.pem + LEAF.key_pem).decode()
    content = behind_certificate(text, PEM_TYPE)
    for format_ in ("pem", "PFX"):
        assert text.encode() == only(render(content, wanted(objectFormat=format_), BundleOptions()))


@pytest.mark.parametrize("format_", ["", "PEM"])
def test_pkcs12_is_converted_to_pem(format_: str) -> None:
    """The key first, then the chain."""
    content = behind_certificate(PFX, PKCS12_TYPE)
    assert BUNDLE == only(render(content, wanted(objectFormat=format_), BundleOptions()))


def test_pkcs12_is_text_as_pfx_and_bytes_as_pkcs12() -> None:
    """The text is verbatim, including line breaks."""
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
def test_separate_files_are_certificate_key_and_bundle(
    content: KeyVaultSecret, fields: dict[str, str], combined: bytes
) -> None:
    """In this order; upstream leaves the first two empty for pfx."""
    expected = ((".crt", LEAF.pem + ROOT.pem), (".key", LEAF.key_pem), ("", combined))
    assert expected == render(content, wanted(**fields), SEPARATE).files


@pytest.mark.parametrize(
    ("value", "content_type", "missing"),
    [
        (LEAF.pem, PEM_TYPE, "private key"),
        (LEAF.key_pem, PEM_TYPE, "certificate"),
        (BUNDLE.replace(b"\n", b" "), PEM_TYPE, "certificate"),
        (
            base64.b64encode(
                pkcs12.serialize_key_and_certificates(
                    None, None, None, [LEAF.certificate], NoEncryption()
                )
            ),
            PKCS12_TYPE,
            "private key",
        ),
    ],
)
def test_separate_files_are_never_empty(value: bytes, content_type: str, missing: str) -> None:
    """A key that is not exportable, lost line ends: an empty file would hide the cause."""
    content = behind_certificate(value.decode(), content_type)
    problem = refused(content, wanted(), SEPARATE)
    assert f"the object holds no {missing} for a separate file" == problem
    assert render(content, wanted(), BundleOptions()).files


def test_byte_order_mark_does_not_hide_the_first_block() -> None:
    """Editors of Windows write it."""
    content = behind_certificate("\ufeff" + BUNDLE.decode(), PEM_TYPE)
    files = dict(render(content, wanted(), SEPARATE).files)
    assert LEAF.key_pem == files[".key"]
    assert LEAF.pem + ROOT.pem == files[".crt"]


def test_incomplete_chain_is_reported() -> None:
    """It is not an error: some servers need no more."""
    content = behind_certificate(
        LEAF.pkcs12(issue_certificate("other", new_ec_key(), is_ca=True).certificate).decode(),
        PKCS12_TYPE,
    )
    assert not render(content, wanted(), BundleOptions()).complete_chain


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/X-PEM-file", "x\nforged"])
def test_unknown_content_type_is_rejected(content_type: str) -> None:
    """Upstream's text; upstream crashes if there is no content type."""
    shown = content_type.replace("\n", "?")
    problem = refused(behind_certificate("x", content_type), wanted())
    assert f"failed to get certificate. unknown content type '{shown}'" == problem


def test_mismatched_key_and_certificate_are_rejected() -> None:
    """In every format, before anything is written."""
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
        (KeyVaultSecret("x", "v1"), {"objectFormat": "pkcs12"}, "the value is not PKCS#12"),
    ],
)
def test_content_that_contradicts_its_entry_is_rejected(
    content: KeyVaultSecret, fields: dict[str, str], words: str
) -> None:
    """Includes PEM of a certificate with objectEncoding, as upstream."""
    assert words in refused(content, wanted(**fields))


def test_certificate_is_encoded_without_parsing() -> None:
    """Its bytes are not validated."""
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
def test_key_without_public_pem_is_rejected(kind: str, curve: str, words: str) -> None:
    """Upstream's texts."""
    numbers = {"x": b"\1", "y": b"\1"}
    assert words == refused(PublicKey(kind, curve, numbers, "v1"), wanted("key"))


@pytest.mark.parametrize("kind", ["RSA", "RSA-HSM"])
def test_hsm_keys_are_delivered(kind: str) -> None:
    """Their public keys have the same form."""
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    numbers_sent = {"n": numbers.n.to_bytes(256), "e": b"\1\0\1"}
    contents = only(render(PublicKey(kind, "", numbers_sent, "v1"), wanted("key"), BundleOptions()))
    assert contents.startswith(b"-----BEGIN PUBLIC KEY-----\n")
