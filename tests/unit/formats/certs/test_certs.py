"""Certificates and keys for TLS Secrets, checked with the library and with the openssl program."""

import base64
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    PrivateKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs12
from hypothesis import given
from hypothesis import strategies as st

from keyferry.errors import SecretDataError
from keyferry.formats.certs import tls as certs
from keyferry.formats.certs.pem import encode_block
from tests.fakes.certificates import issue_certificate, new_ec_key

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
PLAIN = serialization.NoEncryption()
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def self_signed(key: CertificateIssuerPrivateKeyTypes, name: str = "web") -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOON)
        .not_valid_after(NOON + timedelta(days=1))
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: PrivateKeyTypes, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, PLAIN)


def openssl(tmp_path: Path, *arguments: str, given: bytes) -> str:
    """What the openssl program answers to `arguments` with `given` on its standard input."""
    done = subprocess.run(
        ["openssl", *arguments], input=given, capture_output=True, cwd=tmp_path, check=True
    )
    return done.stdout.decode()


RSA_CERTIFICATE = self_signed(RSA)
EC_CERTIFICATE = self_signed(EC, "ca")


ROOT = issue_certificate("root", new_ec_key(), is_ca=True)
INTERMEDIATE = issue_certificate("intermediate", new_ec_key(), ROOT, is_ca=True)
LEAF = issue_certificate("leaf", new_ec_key(), INTERMEDIATE)


class TestCertificatePem:
    def test_keeps_every_certificate_in_the_order_of_the_file(self) -> None:
        """Keys and text between the certificates are left out, and the order stays."""
        contents = (
            b"Bag Attributes\n" + pem(EC_CERTIFICATE) + key_pem(RSA) + b"\n" + pem(RSA_CERTIFICATE)
        )

        result = certs.certificate_pem(contents, "file 'a'")

        assert [EC_CERTIFICATE, RSA_CERTIFICATE] == x509.load_pem_x509_certificates(result)
        assert pem(EC_CERTIFICATE) + pem(RSA_CERTIFICATE) == result

    def test_reencodes_in_lines_of_64_characters(self, tmp_path: Path) -> None:
        """One long line, CRLF and indentation become the form that every reader takes."""
        der = base64.b64encode(RSA_CERTIFICATE.public_bytes(Encoding.DER))
        contents = (
            b"  -----BEGIN CERTIFICATE-----\r\n  " + der + b"\r\n  -----END CERTIFICATE-----\r\n"
        )

        result = certs.certificate_pem(contents, "file 'a'")

        assert pem(RSA_CERTIFICATE) == result
        assert "subject=CN = web\n" == openssl(tmp_path, "x509", "-noout", "-subject", given=result)

    @pytest.mark.parametrize("password", [None, b""], ids=["no password", "empty password"])
    @pytest.mark.parametrize("text", [False, True], ids=["bytes", "base64"])
    def test_reads_pkcs12_of_the_openssl_program(
        self, tmp_path: Path, password: bytes | None, text: bool
    ) -> None:
        """Modern PKCS#12 (AES, SHA-256) is read, as bytes and as base64 text."""
        made = pkcs12.serialize_key_and_certificates(
            b"web", RSA, RSA_CERTIFICATE, [EC_CERTIFICATE], PLAIN
        )
        if password is not None:
            both = key_pem(RSA) + pem(RSA_CERTIFICATE) + pem(EC_CERTIFICATE)
            (tmp_path / "in.pem").write_bytes(both)
            arguments = ("pkcs12", "-export", "-in", "in.pem", "-out", "out.pfx", "-passout")
            openssl(tmp_path, *arguments, "pass:", given=b"")
            made = (tmp_path / "out.pfx").read_bytes()
        contents = base64.encodebytes(made) if text else made

        certificates = certs.certificate_pem(contents, "file 'a'")
        key = certs.private_key_pem(contents, "file 'a'")

        assert pem(RSA_CERTIFICATE) + pem(EC_CERTIFICATE) == certificates
        assert key_pem(RSA, PrivateFormat.TraditionalOpenSSL) == key

    def test_reads_legacy_pkcs12(self, tmp_path: Path) -> None:
        """The old ciphers, RC2 and triple DES with SHA-1, are read too, as upstream reads them."""
        (tmp_path / "in.pem").write_bytes(key_pem(EC) + pem(EC_CERTIFICATE))
        arguments = ("pkcs12", "-export", "-legacy", "-in", "in.pem", "-out", "out.pfx")
        openssl(tmp_path, *arguments, "-passout", "pass:", given=b"")
        contents = (tmp_path / "out.pfx").read_bytes()

        assert pem(EC_CERTIFICATE) == certs.certificate_pem(contents, "file 'a'")
        assert key_pem(EC, PrivateFormat.TraditionalOpenSSL) == certs.private_key_pem(
            contents, "file 'a'"
        )

    def test_says_that_there_is_no_certificate(self) -> None:
        """PEM without a certificate names the file and what it needs."""
        with pytest.raises(SecretDataError) as caught:
            certs.certificate_pem(key_pem(EC), "file 'a'")

        assert "file 'a' holds no certificate, only PEM blocks PRIVATE KEY" == caught.value.problem

    def test_says_that_the_file_is_nothing_known(self) -> None:
        """Neither PEM nor PKCS#12 is an error that repeats nothing of the contents."""
        with pytest.raises(SecretDataError) as caught:
            certs.certificate_pem(b"canary-value", "file 'a'")

        assert "file 'a' holds neither PEM nor PKCS#12" in str(caught.value)
        assert "canary" not in str(caught.value)

    @pytest.mark.parametrize(
        ("line_end", "problem"),
        [
            (b" ", "holds PEM whose line breaks are lost"),
            (b"", "holds PEM whose line breaks are lost"),
            (b"\\n", "holds PEM with the characters \\n instead of line breaks"),
        ],
    )
    def test_says_that_line_breaks_are_lost(self, line_end: bytes, problem: str) -> None:
        """As input fields of web pages do."""
        contents = (pem(EC_CERTIFICATE) + key_pem(EC)).replace(b"\n", line_end)
        for split in (certs.certificate_pem, certs.private_key_pem):
            with pytest.raises(SecretDataError) as caught:
                split(contents, "file 'a'")
            assert f"file 'a' {problem}" == caught.value.problem
            assert "from a file" in caught.value.remedy

    @pytest.mark.parametrize("glued", [key_pem(EC), pem(EC_CERTIFICATE)])
    def test_says_that_blocks_are_on_one_line(self, glued: bytes) -> None:
        """Files without a line break at their end were concatenated."""
        contents = glued.rstrip() + pem(EC_CERTIFICATE)
        with pytest.raises(SecretDataError) as caught:
            certs.certificate_pem(contents, "file 'a'")
        assert caught.value.problem in (
            "file 'a' holds PEM whose line breaks are lost",
            "file 'a' holds PEM without a line break between two blocks",
        )

    def test_says_that_a_password_is_in_the_way(self) -> None:
        """PKCS#12 with a password cannot be opened, and the message says so."""
        locked = pkcs12.serialize_key_and_certificates(
            b"web", RSA, RSA_CERTIFICATE, None, serialization.BestAvailableEncryption(b"canary")
        )

        with pytest.raises(SecretDataError, match="does not open without a password"):
            certs.certificate_pem(locked, "file 'a'")


class TestPrivateKeyPem:
    @pytest.mark.parametrize(
        "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS#8", "old"]
    )
    @pytest.mark.parametrize(
        ("key", "label"), [(RSA, b"RSA PRIVATE KEY"), (EC, b"EC PRIVATE KEY")], ids=["RSA", "EC"]
    )
    def test_becomes_the_form_of_its_kind(
        self, tmp_path: Path, key: PrivateKeyTypes, label: bytes, form: PrivateFormat
    ) -> None:
        """RSA becomes PKCS#1 and elliptic curve SEC1, whatever form it comes in."""
        result = certs.private_key_pem(key_pem(key, form), "file 'a'")

        assert b"-----BEGIN " + label + b"-----" == result.splitlines()[0]
        assert key_pem(key, PrivateFormat.TraditionalOpenSSL) == result
        public = openssl(tmp_path, "pkey", "-pubout", given=result)
        assert (
            key.public_key().public_bytes(
                Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            == public.encode()
        )

    def test_leaves_ed25519_in_pkcs8(self, tmp_path: Path) -> None:
        """Ed25519 has no older form; upstream refuses it."""
        result = certs.private_key_pem(key_pem(ED25519), "file 'a'")

        assert key_pem(ED25519) == result
        assert "ED25519 Private-Key" in openssl(tmp_path, "pkey", "-text", given=result)

    def test_takes_the_last_key(self) -> None:
        """Of several keys the last one counts, as upstream."""
        contents = key_pem(RSA) + pem(RSA_CERTIFICATE) + key_pem(EC) + pem(EC_CERTIFICATE)

        result = certs.private_key_pem(contents, "file 'a'")

        assert key_pem(EC, PrivateFormat.TraditionalOpenSSL) == result

    def test_is_not_hidden_by_parameters(self, tmp_path: Path) -> None:
        """The parameters that openssl writes beside a key do not count as one."""
        parameters = openssl(tmp_path, "ecparam", "-name", "prime256v1", given=b"").encode()

        result = certs.private_key_pem(parameters + key_pem(EC) + parameters, "file 'a'")

        assert key_pem(EC, PrivateFormat.TraditionalOpenSSL) == result

    def test_has_no_label_but_is_a_key(self) -> None:
        """Without a block of that label the last other block is tried, as upstream does."""
        contents = key_pem(EC).replace(b"PRIVATE KEY", b"SOMETHING")

        assert key_pem(EC, PrivateFormat.TraditionalOpenSSL) == certs.private_key_pem(contents, "a")

    @pytest.mark.parametrize(
        "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["PKCS#8", "old"]
    )
    def test_is_refused_when_encrypted(self, form: PrivateFormat) -> None:
        """An encrypted key is an error where upstream writes an empty block."""
        encrypted = RSA.private_bytes(
            Encoding.PEM, form, serialization.BestAvailableEncryption(b"canary")
        )

        with pytest.raises(SecretDataError) as caught:
            certs.private_key_pem(encrypted, "file 'a'")

        assert "the private key in file 'a' is encrypted" == caught.value.problem

    def test_is_refused_when_it_cannot_be_parsed(self) -> None:
        """A block that is no key is an error that names its label, not its bytes."""
        contents = encode_block("EC PRIVATE KEY", b"canary")

        with pytest.raises(SecretDataError) as caught:
            certs.private_key_pem(contents, "file 'a'")

        assert "cannot be parsed (a PEM block 'EC PRIVATE KEY')" in str(caught.value)
        assert caught.value.__cause__ is None

    def test_is_refused_when_no_tls_server_knows_its_kind(self) -> None:
        """DSA and the like are refused."""
        with pytest.raises(SecretDataError, match="neither RSA, elliptic curve nor Ed25519"):
            certs.private_key_pem(key_pem(dsa.generate_private_key(2048)), "file 'a'")

    def test_is_missed(self) -> None:
        """Certificates contain no key; the remedy says how Key Vault returns it."""
        with pytest.raises(SecretDataError) as caught:
            certs.private_key_pem(pem(EC_CERTIFICATE), "file 'a'")

        assert "file 'a' holds no private key, only PEM blocks CERTIFICATE" == caught.value.problem
        assert "objectType: secret" in caught.value.remedy

    def test_is_missed_in_pkcs12(self) -> None:
        """PKCS#12 may hold certificates alone."""
        contents = pkcs12.serialize_key_and_certificates(None, None, None, [EC_CERTIFICATE], PLAIN)

        assert pem(EC_CERTIFICATE) == certs.certificate_pem(contents, "file 'a'")
        with pytest.raises(SecretDataError, match="holds no private key"):
            certs.private_key_pem(contents, "file 'a'")

    def test_is_broken_base64(self) -> None:
        """A block that is no base64 is named, not repeated."""
        contents = b"-----BEGIN PRIVATE KEY-----\n!canary!\n-----END PRIVATE KEY-----\n"

        with pytest.raises(SecretDataError) as caught:
            certs.private_key_pem(contents, "file 'a'")

        assert "file 'a' has a PEM block 'PRIVATE KEY' that is not base64" == caught.value.problem


class TestChainOfKey:
    @pytest.mark.parametrize("key", [RSA, EC, ED25519], ids=["RSA", "EC", "Ed25519"])
    def test_accepts_the_key_of_the_certificate(
        self, key: CertificateIssuerPrivateKeyTypes
    ) -> None:
        """A key and its certificate are a pair."""
        certs.chain_of_key(pem(self_signed(key)), certs.private_key_pem(key_pem(key), "a"))

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_puts_the_certificate_of_the_key_first(self, order: tuple[int, ...]) -> None:
        """Then its issuers: no server starts with another order."""
        pems = [LEAF.pem, INTERMEDIATE.pem, ROOT.pem]
        found = certs.chain_of_key(b"".join(pems[number] for number in order), LEAF.key_pem)
        assert b"".join(pems) == found

    def test_keeps_what_does_not_belong_to_the_chain_at_the_end(self) -> None:
        """It may be there for a reason that the library does not see."""
        strange = encode_block("CERTIFICATE", b"x")
        contents = strange + pem(EC_CERTIFICATE) + ROOT.pem + LEAF.pem
        expected = LEAF.pem + pem(EC_CERTIFICATE) + ROOT.pem + strange
        assert expected == certs.chain_of_key(contents, LEAF.key_pem)

    def test_refuses_the_key_of_another_certificate(self) -> None:
        """A key that fits no certificate would make a Secret that no server can use."""
        with pytest.raises(SecretDataError, match="does not belong to any of the certificates"):
            certs.chain_of_key(pem(RSA_CERTIFICATE), key_pem(EC))

    def test_refuses_a_certificate_that_cannot_be_parsed(self) -> None:
        """A CERTIFICATE block must contain a certificate; the message does not quote it."""
        broken = pem(EC_CERTIFICATE) + encode_block("CERTIFICATE", b"canary")

        with pytest.raises(SecretDataError) as caught:
            certs.chain_of_key(broken, key_pem(RSA))

        assert "certificate 2 of tls.crt cannot be parsed" == caught.value.problem
        assert "canary" not in str(caught.value)


LABELS = st.sampled_from(["CERTIFICATE", "RSA PRIVATE KEY", "X"])


@given(st.binary(max_size=200), st.binary(max_size=50), LABELS)
def test_any_bytes_give_a_result_or_a_keyferry_error(
    around: bytes, body: bytes, label: str
) -> None:
    """Hostile contents never raise anything foreign, and no message repeats them."""
    block = encode_block(label, b"canary" + body)
    for contents in (around, around + block, block[:-10] + around, base64.b64encode(around)):
        for error in (
            error_of(certs.certificate_pem, contents),
            error_of(certs.private_key_pem, contents),
        ):
            assert error is None or "canary" not in str(error)


def error_of(split: Callable[[bytes, str], bytes], contents: bytes) -> SecretDataError | None:
    """Return the KeyferryError that `split` raises, or None."""
    try:
        split(contents, "file 'a'")
    except SecretDataError as error:
        return error
    return None
