"""keyferry.formats.certs.unrecognized: what contents are instead of a certificate or a key."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import SecretDataError
from keyferry.formats.certs import tls as certs
from keyferry.formats.certs.unrecognized import diagnose, pem_damage
from tests.fakes.certificates import issue_certificate, new_ec_key

LEAF = issue_certificate("web", new_ec_key())
WHOLE = LEAF.key_pem + LEAF.pem
LOCKED = pkcs12.serialize_key_and_certificates(
    b"web", LEAF.key, LEAF.certificate, None, BestAvailableEncryption(b"canary")
)
CERTIFICATE_DER = LEAF.certificate.public_bytes(Encoding.DER)
KEY_DER = LEAF.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
LOST = "holds PEM whose line breaks are lost"

KINDS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "blanks": (b" \r\n", "is empty"),
    "blanks for line breaks": (WHOLE.replace(b"\n", b" "), LOST),
    "no line breaks": (WHOLE.replace(b"\n", b""), LOST),
    "no line breaks after the labels": (WHOLE.replace(b"-----\n", b"-----"), LOST),
    "backslashes for line breaks": (
        WHOLE.replace(b"\n", b"\\n"),
        "holds PEM with the characters \\n instead of line breaks",
    ),
    "backslashes with carriage returns": (
        WHOLE.replace(b"\n", b"\\r\\n"),
        "holds PEM with the characters \\n instead of line breaks",
    ),
    "a text before the block": (b"cert: " + LEAF.pem, LOST),
    "a truncated block": (LEAF.pem[:200], "holds PEM without its last line, -----END ...-----"),
    "JSON": (
        json.dumps({"tls.crt": LEAF.pem.decode(), "tls.key": "canary"}).encode(),
        "is JSON with the keys tls.crt, tls.key",
    ),
    "JSON with many keys": (
        json.dumps(dict.fromkeys("abcdefg", "canary")).encode(),
        "is JSON with the keys a, b, c, d, e, ...",
    ),
    "JSON with odd keys": (b'{"the canary": 1}', "is JSON"),
    "a JSON string": (json.dumps(WHOLE.decode()).encode(), "is a JSON string"),
    "base64 of PEM": (base64.b64encode(WHOLE), "is the base64 text of PEM"),
    "lines of base64 of PEM": (base64.encodebytes(WHOLE), "is the base64 text of PEM"),
    "base64 of JSON": (base64.b64encode(b'{"a": "canary"}'), "is the base64 text of JSON"),
    "PKCS#12 with a password": (LOCKED, "is PKCS#12 that does not open without a password"),
    "base64 of PKCS#12 with a password": (
        base64.b64encode(LOCKED),
        "is PKCS#12 that does not open without a password",
    ),
    "a certificate in DER": (CERTIFICATE_DER, "is a certificate in DER, without its key"),
    "base64 of a certificate in DER": (
        base64.b64encode(CERTIFICATE_DER),
        "is a certificate in DER, without its key",
    ),
    "a key in DER": (KEY_DER, "is a private key in DER"),
    "UTF-16": (WHOLE.decode().encode("utf-16"), "is UTF-16 text"),
    "a Java keystore": (bytes.fromhex("feedfeed00000002"), "is a Java keystore"),
}


@pytest.mark.parametrize("name", KINDS)
def test_kind_is_named_in_the_error_of_a_tls_secret(name: str) -> None:
    """Each kind has its own sentence and remedy; nothing of the contents is repeated."""
    contents, problem = KINDS[name]
    for split in (certs.certificate_pem, certs.private_key_pem):
        with pytest.raises(SecretDataError) as caught:
            split(contents, "file 'a'")
        assert f"file 'a' {problem}" == caught.value.problem
        assert caught.value.remedy
        assert "canary" not in str(caught.value)


def test_whole_pem_has_no_damage() -> None:
    """Also with text around the blocks, and with any line ends."""
    for contents in (WHOLE, WHOLE.replace(b"\n", b"\r\n"), b"text\n" + WHOLE + b"text", b""):
        assert pem_damage(contents) is None


@pytest.mark.parametrize("contents", [b"canary", b"\x00\x01", b"-----", b"YWJj"])
def test_unknown_contents_have_no_diagnosis(contents: bytes) -> None:
    """Then the general message applies."""
    assert diagnose(contents) is None


@given(st.binary(max_size=80) | st.text().map(str.encode))
def test_nothing_escapes(contents: bytes) -> None:
    """Whatever the contents, there is a diagnosis or none."""
    diagnose(contents)
