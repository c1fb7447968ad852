"""Client certificate: what a client may prove itself by, and what it may not."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from keyferry.errors import SecretDataError
from keyferry.formats.certs.client_certificate import read_client_certificate
from tests.fakes.certificates import issue_certificate, new_ec_key, new_rsa_key

CANARY = "canary-7a10"
ROOT = issue_certificate("root", new_rsa_key(), is_ca=True)
LEAF = issue_certificate("app", new_rsa_key(), ROOT)
STRANGER = issue_certificate("stranger", new_rsa_key())
EC = issue_certificate("ec", new_ec_key())
LOCKED = BestAvailableEncryption(CANARY.encode())


def key_pem(form: PrivateFormat, *, locked: bool = False) -> bytes:
    """The key of the leaf."""
    return LEAF.key.private_bytes(Encoding.PEM, form, LOCKED if locked else NoEncryption())


def as_pkcs12(*, locked: bool, key: bool = True, certificate: bool = True) -> bytes:
    """The leaf and its issuer."""
    assert isinstance(LEAF.key, rsa.RSAPrivateKey)
    return pkcs12.serialize_key_and_certificates(
        b"app",
        LEAF.key if key else None,
        LEAF.certificate if certificate else None,
        [ROOT.certificate],
        LOCKED if locked else NoEncryption(),
    )


PKCS8, PKCS1 = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
GOOD = {
    "key first": (key_pem(PKCS8) + LEAF.pem, ""),
    "certificate first": (LEAF.pem + key_pem(PKCS8), ""),
    "the chain, its root first": (ROOT.pem + LEAF.pem + key_pem(PKCS8), ""),
    "text around the blocks": (b"Bag Attributes\n" + LEAF.pem + b"\n#\n" + key_pem(PKCS1), ""),
    "PKCS#1": (key_pem(PKCS1) + LEAF.pem, ""),
    "PKCS#8 with a password": (key_pem(PKCS8, locked=True) + LEAF.pem, CANARY),
    "PKCS#1 with a password": (key_pem(PKCS1, locked=True) + LEAF.pem, CANARY),
    "line ends of Windows": ((key_pem(PKCS8) + LEAF.pem).replace(b"\n", b"\r\n"), ""),
    "PKCS#12": (as_pkcs12(locked=False), ""),
    "PKCS#12 with a password": (as_pkcs12(locked=True), CANARY),
}


@pytest.mark.parametrize("form", sorted(GOOD))
def test_the_certificate_of_the_key_is_found(form: str) -> None:
    """Whatever text surrounds it; its digests identify it, its key signs."""
    contents, password = GOOD[form]
    found = read_client_certificate(contents, password.encode())
    assert LEAF.certificate.fingerprint(SHA1()) == found.sha1
    assert LEAF.certificate.fingerprint(SHA256()) == found.sha256
    public = LEAF.key.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(found.sign_rs256(b"data"), b"data", padding.PKCS1v15(), SHA256())
    # RFC 7518, section 3.5: the salt is as long as the digest.
    salted = padding.PSS(padding.MGF1(SHA256()), 32)
    public.verify(found.sign_ps256(b"data"), b"data", salted, SHA256())


BROKEN = b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(CANARY.encode()) + (
    b"\n-----END PRIVATE KEY-----\n"
)  # fmt: skip
BAD = {
    "nothing": (b"", "", "neither PEM nor PKCS#12"),
    "no certificate and no key": (CANARY.encode(), "", "neither PEM nor PKCS#12"),
    "lost line breaks": (
        (key_pem(PKCS8) + LEAF.pem).replace(b"\n", b" "),
        "",
        "it holds PEM whose line breaks are lost",
    ),
    "no key": (LEAF.pem, "", "no private key"),
    "PKCS#12 without a key": (as_pkcs12(locked=False, key=False), "", "no private key"),
    "no certificate": (key_pem(PKCS8), "", "no certificate that belongs to its private key"),
    "the certificate of another key": (key_pem(PKCS8) + STRANGER.pem, "", "no certificate that"),
    "PKCS#12 without its certificate": (
        as_pkcs12(locked=False, certificate=False),
        "",
        "no certificate that",
    ),
    "an invalid certificate": (
        key_pem(PKCS8) + LEAF.pem.replace(b"MII", b"MIX"),
        "",
        "no certificate that",
    ),
    "an EC key": (EC.key_pem + EC.pem, "", "a private key that is not RSA"),
    "an invalid key": (BROKEN + LEAF.pem, "", "neither PEM nor PKCS#12 with a private key"),
    "a missing password": (
        key_pem(PKCS8, locked=True) + LEAF.pem,
        "",
        "encrypted, and no password is given",
    ),
    "a wrong password": (
        key_pem(PKCS8, locked=True) + LEAF.pem,
        f"{CANARY}-wrong",
        "the password is wrong",
    ),
    "a password too many": (
        key_pem(PKCS8) + LEAF.pem,
        CANARY,
        "not encrypted, and a password is given",
    ),
    "PKCS#12, a missing password": (as_pkcs12(locked=True), "", "it needs a password"),
    "PKCS#12, a wrong password": (as_pkcs12(locked=True), "\ud800", "password is wrong"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_unusable_certificates_have_different_errors(case: str) -> None:
    """Each in its own words, with a remedy; nothing of it and no foreign error comes along."""
    contents, password, words = BAD[case]
    with pytest.raises(SecretDataError) as caught:
        read_client_certificate(contents, password.encode(errors="surrogatepass"))
    error = caught.value
    assert words in error.problem
    assert error.remedy
    assert CANARY not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
