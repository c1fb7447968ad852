"""Bundle: PKCS#12 to PEM, pairs and parts, checked with the openssl program."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    NoEncryption,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificates

from keyferry.errors import SecretDataError
from keyferry.formats.certs.bundle import check_pem, check_pkcs12, pkcs12_to_pem, split_pem
from tests.fakes.certificates import IssuedCertificate, issue_certificate, new_ec_key, new_rsa_key

ROOT = issue_certificate("root", new_ec_key(), is_ca=True)
MIDDLE = issue_certificate("middle", new_ec_key(), ROOT, is_ca=True)
LEAF = issue_certificate("test.domain.com", new_ec_key(), MIDDLE)
RSA = issue_certificate("test.domain.com", new_rsa_key())


def openssl(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    done = subprocess.run(
        ["openssl", *arguments], input=given, cwd=folder, capture_output=True, check=True
    )
    return done.stdout


def exported(
    folder: Path, issued: IssuedCertificate, chain: list[IssuedCertificate], *options: str
) -> bytes:
    """PKCS#12 as openssl writes it, as base64 text."""
    (folder / "key.pem").write_bytes(issued.key_pem)
    (folder / "all.pem").write_bytes(b"".join(each.pem for each in [issued, *chain]))
    content = openssl(
        folder, "pkcs12", "-export", "-inkey", "key.pem", "-in", "all.pem", "-passout", "pass:",
        *options,
    )  # fmt: skip
    return base64.b64encode(content)


def test_one_rsa_certificate_becomes_key_and_certificate() -> None:
    """Byte for byte: PKCS#8 first, then the certificate, and nothing else."""
    found = pkcs12_to_pem(RSA.pkcs12(), "the object", ordered=True)
    assert (RSA.key_pem + RSA.pem, True) == (found.pem, found.complete)


def test_three_ec_certificates_come_in_order() -> None:
    """Key, leaf, intermediate, root, byte for byte."""
    content = LEAF.pkcs12(ROOT.certificate, MIDDLE.certificate)
    found = pkcs12_to_pem(content, "the object", ordered=True)
    assert LEAF.key_pem + LEAF.pem + MIDDLE.pem + ROOT.pem == found.pem


def test_order_can_be_kept() -> None:
    """As --construct-pem-chain=false asks for; nothing is said of the chain then."""
    content = LEAF.pkcs12(ROOT.certificate, MIDDLE.certificate)
    found = pkcs12_to_pem(content, "the object", ordered=False)
    assert (LEAF.key_pem + LEAF.pem + ROOT.pem + MIDDLE.pem, True) == (found.pem, found.complete)


def test_missing_intermediate_is_reported() -> None:
    """The certificates stay as they were; the caller can warn."""
    found = pkcs12_to_pem(LEAF.pkcs12(ROOT.certificate), "the object", ordered=True)
    assert (LEAF.key_pem + LEAF.pem + ROOT.pem, False) == (found.pem, found.complete)


@pytest.mark.parametrize("options", [(), ("-legacy",)], ids=["modern", "legacy"])
@pytest.mark.parametrize("issued", [RSA, LEAF], ids=["RSA", "EC"])
def test_what_openssl_writes_is_read(
    tmp_path: Path, issued: IssuedCertificate, options: tuple[str, ...]
) -> None:
    """3DES and RC2 as vaults write it, and AES; the private key is that of the leaf."""
    chain = [ROOT, MIDDLE] if issued is LEAF else []
    content = exported(tmp_path, issued, chain, *options)
    found = pkcs12_to_pem(content, "the object", ordered=True)
    assert issued.key.public_key() == load_pem_private_key(found.pem, None).public_key()
    expected = [each.certificate for each in [issued, *reversed(chain)]]
    assert expected == load_pem_x509_certificates(found.pem)
    shown = openssl(tmp_path, "pkey", "-pubout", given=found.pem)
    assert shown == openssl(tmp_path, "x509", "-pubkey", "-noout", given=found.pem)


def test_password_protection_is_reported(tmp_path: Path) -> None:
    """Vaults keep PKCS#12 without one."""
    content = exported(tmp_path, RSA, [], "-passout", "pass:x")
    with pytest.raises(SecretDataError, match="does not open without a password"):
        pkcs12_to_pem(content, "the object", ordered=True)


def test_a_key_without_certificate_is_no_bundle(tmp_path: Path) -> None:
    """The words are upstream's."""
    (tmp_path / "key.pem").write_bytes(LEAF.key_pem)
    content = openssl(
        tmp_path, "pkcs12", "-export", "-nocerts", "-inkey", "key.pem", "-passout", "pass:"
    )
    with pytest.raises(SecretDataError, match="no leaf found"):
        pkcs12_to_pem(content, "the object", ordered=True)


def mismatched() -> bytes:
    """PKCS#12 whose key belongs to another certificate: openssl refuses to write it with both."""
    content = pkcs12.serialize_key_and_certificates(
        None, new_ec_key(), None, [RSA.certificate, ROOT.certificate], NoEncryption()
    )
    return base64.b64encode(content)


def test_a_key_of_another_certificate_is_refused() -> None:
    """In PKCS#12 and in PEM, before anything is written."""
    content = mismatched()
    words = "the private key in the object does not belong to any of its certificates"
    with pytest.raises(SecretDataError, match=words):
        pkcs12_to_pem(content, "the object", ordered=True)
    with pytest.raises(SecretDataError, match=words):
        check_pkcs12(content, "the object")
    with pytest.raises(SecretDataError, match=words):
        check_pem(LEAF.key_pem + RSA.pem, "the object")


@pytest.mark.parametrize(
    "content",
    [
        LEAF.key_pem + LEAF.pem + MIDDLE.pem,
        MIDDLE.pem + LEAF.pem + LEAF.key_pem,
        LEAF.pem,
        LEAF.key_pem,
        b"no PEM at all",
        b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n" + LEAF.key_pem,
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + LEAF.key_pem,
    ],
)
def test_what_fits_or_cannot_be_read_passes(content: bytes) -> None:
    """PEM is delivered as it is in the vault; only a pair that is known to be wrong is not."""
    check_pem(content, "the object")
    check_pkcs12(content, "the object")


def test_parts_are_certificates_and_everything_else() -> None:
    """Text between the blocks is dropped; a missing part is empty."""
    text = b"Bag Attributes\n" + LEAF.key_pem + b"subject=x\n" + LEAF.pem + MIDDLE.pem
    assert (LEAF.pem + MIDDLE.pem, LEAF.key_pem) == split_pem(text, "the object")
    assert (b"", LEAF.key_pem) == split_pem(LEAF.key_pem, "the object")
    assert (b"", b"") == split_pem(b"plain", "the object")
