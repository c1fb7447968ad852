"""keyferry.formats.certs.pkcs12: keys are loaded without validation, whatever encrypts them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from keyferry.errors import SecretDataError
from keyferry.formats.certs.pkcs12 import open_pkcs12, read_pkcs12
from tests.fakes import der
from tests.fakes.certificates import issue_certificate, new_rsa_key

ROOT = issue_certificate("root", new_rsa_key(), is_ca=True)
LEAF = issue_certificate("test.domain.com", new_rsa_key(), ROOT)
CERT_BAG = bytes.fromhex("2a864886f70d010c0a0103")
X509 = bytes.fromhex("2a864886f70d01091601")


def invalid_key() -> bytes:
    """PKCS#8 of the leaf's key with another private exponent."""
    assert isinstance(LEAF.key, rsa.RSAPrivateKey)
    numbers = LEAF.key.private_numbers()
    public = numbers.public_numbers
    fields = (0, public.n, public.e, numbers.d + 2, numbers.p, numbers.q)
    key = der.sequence(
        *map(der.integer, (*fields, numbers.dmp1, numbers.dmq1, numbers.iqmp)),
    )
    algorithm = der.sequence(der.name(bytes.fromhex("2a864886f70d010101")), der.encode(5))
    return der.sequence(der.integer(0), algorithm, der.octets(key))


def certificate_bag() -> bytes:
    content = der.octets(LEAF.certificate.public_bytes(Encoding.DER))
    return der.bag(CERT_BAG, der.sequence(der.name(X509), der.tagged(0, content)))


@pytest.mark.parametrize("together", [True, False])
def test_rsa_key_is_not_validated(together: bool) -> None:
    """The validation takes 0.3 s for 4,096 bits, and 4 s for 8,192."""
    key = der.bag(der.KEY_BAG, invalid_key())
    bags = [[key, certificate_bag()]] if together else [[key], [certificate_bag()]]
    content = der.pkcs12(*(der.data(der.sequence(*each)) for each in bags))
    with pytest.raises(ValueError, match="key"):
        load_key_and_certificates(content, None)
    found, certificates = read_pkcs12(content, "it")
    assert found is not None
    assert found.public_key() == LEAF.key.public_key()
    assert certificates == [LEAF.certificate]


@pytest.mark.parametrize("password", ["", "password", "pässword"])
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-nomac",),
        ("-legacy",),
        ("-legacy", "-nomac"),
        ("-keypbe", "NONE", "-certpbe", "NONE"),
        ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "AES-128-CBC"),
        ("-keypbe", "AES-256-CBC", "-certpbe", "PBE-SHA1-3DES"),
        ("-keypbe", "PBE-SHA1-RC2-128", "-certpbe", "PBE-SHA1-RC2-40", "-legacy"),
        ("-macalg", "sha512"),
    ],
)
def test_files_of_openssl_are_read_as_by_the_library(
    tmp_path: Path, options: tuple[str, ...], password: str
) -> None:
    """Every cipher, with and without MAC; the library validates keys, this reader does not."""
    (tmp_path / "all.pem").write_bytes(LEAF.key_pem + ROOT.pem + LEAF.pem)
    export = ["pkcs12", "-export", "-in", "all.pem", "-out", "all.p12", "-passout"]
    subprocess.run(
        ["openssl", *export, f"pass:{password}", *options],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    content = (tmp_path / "all.p12").read_bytes()
    given = password.encode() or None
    if options == ("-legacy", "-nomac") and given is None:
        # The library takes no password for none at all, which differs from an empty one here.
        with pytest.raises(ValueError, match="password"):
            load_key_and_certificates(content, None)
    else:
        key, certificate, others = load_key_and_certificates(content, given)
        assert key is not None
        assert certificate is not None
        assert [LEAF.certificate, ROOT.certificate] == [certificate, *others]
    found, certificates = open_pkcs12(content, "it", given)
    assert found is not None
    assert found.public_key() == LEAF.key.public_key()
    assert certificates == [LEAF.certificate, ROOT.certificate]


def test_wrong_password_is_refused(tmp_path: Path) -> None:
    """Also for the key alone."""
    (tmp_path / "all.pem").write_bytes(LEAF.key_pem + LEAF.pem)
    export = ["pkcs12", "-export", "-in", "all.pem", "-out", "all.p12", "-passout", "pass:x"]
    subprocess.run(["openssl", *export], cwd=tmp_path, capture_output=True, check=True)
    content = (tmp_path / "all.p12").read_bytes()
    with pytest.raises(ValueError, match="password"):
        open_pkcs12(content, "it", b"y")
    with pytest.raises(SecretDataError, match="does not open without a password"):
        read_pkcs12(content, "it")
