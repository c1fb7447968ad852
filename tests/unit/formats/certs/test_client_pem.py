"""keyferry.formats.certs.client_pem: one key of limited size, and its certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from keyferry.errors import SecretDataError
from keyferry.formats.certs.client_pem import normalized_client_pem
from keyferry.formats.certs.pem import encode_block
from tests.fakes import der
from tests.fakes.certificates import (
    IssuedCertificate,
    issue_certificate,
    new_ec_key,
    new_rsa_key,
)

ROOT = issue_certificate("root", new_rsa_key(), is_ca=True)
LEAF = issue_certificate("app", new_rsa_key(), ROOT)
EC = issue_certificate("ec", new_ec_key(), ROOT)


@pytest.mark.parametrize("issued", [LEAF, EC], ids=["RSA", "EC"])
def test_key_and_chain_are_put_in_order(tmp_path: Path, issued: IssuedCertificate) -> None:
    """OpenSSL takes the first certificate for that of the key."""
    contents = b"text\n" + ROOT.pem + issued.pem + issued.key_pem + ROOT.pem
    found = normalized_client_pem(contents)
    assert found == issued.key_pem + issued.pem + ROOT.pem
    (tmp_path / "client.pem").write_bytes(found)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(tmp_path / "client.pem")


def encrypted(form: PrivateFormat) -> bytes:
    return LEAF.key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"x"))


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "no private key"),
        (LEAF.pem, "no private key"),
        (LEAF.key_pem, "no certificate of its private key"),
        (LEAF.key_pem + ROOT.pem, "no certificate of its private key"),
        (LEAF.key_pem + encode_block("CERTIFICATE", b"x"), "a certificate cannot be parsed"),
        (encode_block("PRIVATE KEY", b"x") + LEAF.pem, "cannot be parsed"),
        (encrypted(PrivateFormat.PKCS8) + LEAF.pem, "encrypted"),
        (encrypted(PrivateFormat.TraditionalOpenSSL) + LEAF.pem, "encrypted"),
        (
            encode_block("PRIVATE KEY", der.shrouded_key(der.pbe(0x7FFFFFFF))) + LEAF.pem,
            "asks for 2,147,483,647 iterations",
        ),
        (encode_block("PRIVATE KEY", der.rsa_key(16384)) + LEAF.pem, "at most 8192"),
        (LEAF.key_pem.replace(b"\n", b" ") + LEAF.pem, "no private key"),
    ],
)
def test_unusable_pairs_are_refused(contents: bytes, words: str) -> None:
    """An encrypted key would ask for work although there is no password."""
    with pytest.raises(SecretDataError, match=words) as caught:
        normalized_client_pem(contents)
    assert caught.value.remedy
