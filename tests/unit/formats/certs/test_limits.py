"""keyferry.formats.certs.limits: work is refused before it is done."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyferry.errors import KeyferryError, SecretDataError
from keyferry.formats.certs.bundle import check_pem, check_pkcs12, pkcs12_to_pem
from keyferry.formats.certs.client_certificate import read_client_certificate
from keyferry.formats.certs.der import SEQUENCE, read_element
from keyferry.formats.certs.jwk import ec_public_key_pem, rsa_public_key_pem
from keyferry.formats.certs.limits import MAX_INPUT_BYTES, MAX_ITERATIONS, MAX_OBJECTS
from keyferry.formats.certs.loading import load_certificate, load_private_key
from keyferry.formats.certs.pem import encode_block
from keyferry.formats.certs.tls import certificate_pem, private_key_pem
from tests.fakes import der
from tests.fakes.certificates import issue_certificate, new_ec_key, new_rsa_key

HUGE = 0x7FFFFFFF
LEAF = issue_certificate("test.domain.com", new_ec_key())
RSA = issue_certificate("test.domain.com", new_rsa_key())

WORDS = "(iterations are computed|asks for scrypt with more than 32 MiB)"
SHROUDED = der.SHROUDED_KEY_BAG
BOMBS = {
    "MAC": der.pkcs12(mac_data=der.mac(HUGE)),
    "PBMAC1": der.pkcs12(
        mac_data=der.mac(
            1, der.sequence(der.name(der.PBMAC1), der.sequence(der.pbkdf2(HUGE), der.encode(5)))
        )
    ),
    "PBES1 of the certificates": der.pkcs12(der.encrypted_data(der.pbe(HUGE))),
    "PBES2 of the certificates": der.pkcs12(der.encrypted_data(der.pbes2(der.pbkdf2(HUGE)))),
    "PBES1 of the key": der.pkcs12(
        der.data(der.sequence(der.bag(SHROUDED, der.shrouded_key(der.pbe(HUGE)))))
    ),
    "a count of 9 bytes": der.pkcs12(der.encrypted_data(der.pbe(1 << 66))),
    "scrypt": der.pkcs12(der.encrypted_data(der.pbes2(der.scrypt(1 << 20, 8, 1)))),
    "scrypt in parallel": der.pkcs12(der.encrypted_data(der.pbes2(der.scrypt(1 << 14, 8, 1000)))),
    "bags in a bag": der.pkcs12(
        der.data(
            der.sequence(
                der.bag(
                    der.SAFE_CONTENTS_BAG,
                    der.sequence(der.bag(SHROUDED, der.shrouded_key(der.pbe(HUGE)))),
                )
            )
        )
    ),
    "many derivations": der.pkcs12(*[der.encrypted_data(der.pbe(MAX_ITERATIONS // 100))] * 101),
    "indefinite lengths, a string in parts": der.encode(
        SEQUENCE,
        der.integer(3),
        der.encode(
            SEQUENCE,
            der.name(der.DATA),
            der.encode(
                0xA0,
                der.encode(
                    0x24,
                    *(
                        der.octets(bytes((byte,)))
                        for byte in der.sequence(der.encrypted_data(der.pbe(HUGE)))
                    ),
                    indefinite=True,
                ),
                indefinite=True,
            ),
            indefinite=True,
        ),
        indefinite=True,
    ),
}


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)


def exported(folder: Path, *options: str) -> bytes:
    """PKCS#12 as openssl writes it."""
    (folder / "all.pem").write_bytes(RSA.key_pem + RSA.pem)
    export = ["pkcs12", "-export", "-in", "all.pem", "-passout", "pass:", "-out", "all.p12"]
    openssl(folder, *export, *options)
    return (folder / "all.p12").read_bytes()


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize(
    "parse",
    [
        lambda p12: pkcs12_to_pem(p12, "it", ordered=True),
        lambda p12: pkcs12_to_pem(base64.b64encode(p12), "it", ordered=True),
        lambda p12: certificate_pem(p12, "it"),
        lambda p12: private_key_pem(p12, "it"),
        lambda p12: read_client_certificate(p12, b""),
        lambda p12: read_client_certificate(p12, b"password"),
    ],
)
def test_pkcs12_with_too_many_iterations_is_refused(
    parse: Callable[[bytes], object], kind: str
) -> None:
    """The issue's attack: 840 bytes that keep a core busy for minutes."""
    with pytest.raises(SecretDataError, match=WORDS):
        parse(BOMBS[kind])


@pytest.mark.parametrize("options", [(), ("-legacy",), ("-nomac",), ("-iter", "100000")])
def test_changed_count_of_a_real_file_is_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The unchanged file is read."""
    content = exported(tmp_path, *options)
    assert pkcs12_to_pem(content, "it", ordered=True).pem.endswith(RSA.pem)
    with pytest.raises(SecretDataError, match="iterations are computed"):
        pkcs12_to_pem(der.with_iterations(content, HUGE), "it", ordered=True)


def test_unused_pkcs12_is_delivered_without_being_opened() -> None:
    """Nothing is computed, so nothing needs to be refused."""
    check_pkcs12(BOMBS["MAC"], "it")


@pytest.mark.parametrize("algorithm", [der.pbe(HUGE), der.pbes2(der.pbkdf2(HUGE))])
@pytest.mark.parametrize("label", ["ENCRYPTED PRIVATE KEY", "PRIVATE KEY"])
def test_encrypted_key_with_too_many_iterations_is_refused(algorithm: bytes, label: str) -> None:
    """Also with a wrong label."""
    pem = encode_block(label, der.shrouded_key(algorithm))
    with pytest.raises(SecretDataError, match="iterations are computed"):
        read_client_certificate(pem + LEAF.pem, b"password")
    with pytest.raises(SecretDataError):
        private_key_pem(pem, "it")
    check_pem(pem + LEAF.pem, "it")


def test_key_on_one_line_does_not_reach_the_library() -> None:
    """The library may find a block where this reader finds none."""
    pem = encode_block("ENCRYPTED PRIVATE KEY", der.shrouded_key(der.pbe(HUGE)))
    with pytest.raises(SecretDataError, match="PEM whose line breaks are lost"):
        read_client_certificate(pem.replace(b"\n", b" "), b"password")


def test_long_rsa_keys_are_refused_before_they_are_loaded() -> None:
    """In every form; 8,192 bits are the limit."""
    long_key = der.rsa_key(8193)
    for parse in (
        lambda: load_private_key(long_key, "it"),
        lambda: private_key_pem(encode_block("RSA PRIVATE KEY", long_key), "it"),
        lambda: private_key_pem(
            der.pkcs12(der.data(der.sequence(der.bag(der.KEY_BAG, long_key)))), "it"
        ),
    ):
        with pytest.raises(SecretDataError, match="at most 8192"):
            parse()
    assert isinstance(load_private_key(der.rsa_key(8192), "it"), rsa.RSAPrivateKey)


def test_certificate_with_a_long_key_is_refused() -> None:
    """Its signatures would take long to verify."""
    public = RSA.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    old = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    content = RSA.certificate.public_bytes(Encoding.DER)
    signed, *rest = read_element(content).children()
    fields = [der.encode(each.tag, each.content) for each in signed.children()]
    position = fields.index(old)
    fields[position] = der.sequence(
        der.sequence(der.name(bytes.fromhex("2a864886f70d010101")), der.encode(5)),
        der.encode(3, b"\0", der.sequence(der.integer((1 << 8193) - 1), der.integer(65537))),
    )
    changed = der.sequence(
        der.sequence(*fields), *(der.encode(each.tag, each.content) for each in rest)
    )
    with pytest.raises(SecretDataError, match="at most 8192"):
        load_certificate(changed, "it")
    assert load_certificate(content, "it") == RSA.certificate


def test_size_and_number_of_blocks_are_limited() -> None:
    """Before anything is decoded."""
    with pytest.raises(SecretDataError, match="bytes; at most"):
        certificate_pem(b"x" * (MAX_INPUT_BYTES + 1), "it")
    with pytest.raises(SecretDataError, match="more than 256"):
        certificate_pem(encode_block("CERTIFICATE", b"x") * (MAX_OBJECTS + 1), "it")


def test_numbers_of_a_json_web_key_are_limited() -> None:
    """Modulus, exponent and coordinates."""
    with pytest.raises(SecretDataError, match="at most 8192"):
        rsa_public_key_pem(b"\xff" * 1025, b"\x01\x00\x01")
    with pytest.raises(SecretDataError, match="e has more than 256"):
        rsa_public_key_pem(b"\xff" * 256, b"\xff" * 33)
    with pytest.raises(SecretDataError, match="no point"):
        ec_public_key_pem("P-256", b"\xff" * 100_000, b"\x01")


def test_rsa_keys_are_not_validated() -> None:
    """A check that takes seconds for long keys; no caller depends on it."""
    key = RSA.key
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    wrong = der.sequence(
        *map(
            der.integer,
            (
                0,
                numbers.public_numbers.n,
                numbers.public_numbers.e,
                numbers.d + 2,
                numbers.p,
                numbers.q,
                numbers.dmp1,
                numbers.dmq1,
                numbers.iqmp,
            ),
        )
    )
    assert load_private_key(wrong, "it").public_key() == key.public_key()


@pytest.mark.parametrize("kind", BOMBS)
def test_messages_name_the_source_and_a_remedy(kind: str) -> None:
    """A reader knows which object to export again."""
    with pytest.raises(KeyferryError, match=r"^file 'x' asks for .*(Export|Encrypt) it again"):
        certificate_pem(BOMBS[kind], "file 'x'")
