"""Arbitrary PKCS#12, PEM and JSON Web Keys: bounded work, and errors of Keyferry only."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.x509 import load_pem_x509_certificates
from hypothesis import event, given, settings
from hypothesis import strategies as st

from keyferry.errors import KeyferryError, SecretDataError
from keyferry.formats.certs import tls as certs
from keyferry.formats.certs.client_certificate import AssertionRequest, sign_assertion
from keyferry.formats.certs.client_pem import normalized_client_pem
from keyferry.formats.certs.limits import MAX_ITERATIONS
from keyferry.formats.certs.material import KeyMaterial, MaterialKind, parse_material
from keyferry.formats.certs.pem import encode_block
from keyferry.formats.certs.pkcs12 import open_pkcs12, read_pkcs12
from tests.fakes import der
from tests.fakes.certificates import issue_certificate, new_ec_key, new_rsa_key
from tests.fuzz.messages import check_message

ROOT = issue_certificate("root", new_ec_key(), is_ca=True)
LEAF = issue_certificate("leaf", new_ec_key(), ROOT)
RSA = issue_certificate("rsa", new_rsa_key(), ROOT)

OF_SIGNATURES = max(settings().max_examples // 4, 100)
"""Cases for tests that sign, or write PKCS#12."""

# --- PKCS#12 that asks for any amount of work -----------------------------------------------------

COUNTS = (
    st.integers(0, 3000)
    | st.integers(MAX_ITERATIONS - 10, MAX_ITERATIONS + 10)
    | st.integers(1 << 20, 1 << 72)
)


@dataclass(frozen=True)
class Asked:
    """Part of a file, and the iterations that it asks for."""

    content: bytes
    iterations: int = 0


@st.composite
def algorithms(draw: st.DrawFn) -> Asked:
    count = draw(COUNTS)
    make: Callable[[int], bytes] = draw(
        st.sampled_from([der.pbe, lambda number: der.pbes2(der.pbkdf2(number))])
    )
    return Asked(make(count), count)


@st.composite
def bags(draw: st.DrawFn, depth: int = 3) -> Asked:
    """A key or a certificate, encrypted or not, or a bag of bags."""
    kind = draw(st.sampled_from(["shrouded", "key", "other", "nested"]))
    if kind == "shrouded":
        algorithm = draw(algorithms())
        content = der.bag(der.SHROUDED_KEY_BAG, der.shrouded_key(algorithm.content))
        return Asked(content, algorithm.iterations)
    if kind == "nested" and depth:
        inner = draw(st.lists(bags(depth - 1), max_size=2))
        content = der.sequence(*(each.content for each in inner))
        return Asked(
            der.bag(der.SAFE_CONTENTS_BAG, content), sum(each.iterations for each in inner)
        )
    identifier = der.KEY_BAG if kind == "key" else der.DATA
    return Asked(der.bag(identifier, der.rsa_key(512)))


@st.composite
def infos(draw: st.DrawFn) -> Asked:
    if draw(st.booleans()):
        algorithm = draw(algorithms())
        return Asked(der.encrypted_data(algorithm.content), algorithm.iterations)
    inside = draw(st.lists(bags(), max_size=3))
    content = der.data(der.sequence(*(each.content for each in inside)))
    return Asked(content, sum(each.iterations for each in inside))


@st.composite
def files(draw: st.DrawFn) -> Asked:
    """PKCS#12 as DER, or with strings in parts and indefinite lengths."""
    contents = draw(st.lists(infos(), max_size=4))
    iterations = sum(each.iterations for each in contents)
    mac = b""
    if draw(st.booleans()):
        count = draw(COUNTS)
        mac, iterations = der.mac(count), iterations + count
    whole = der.sequence(*(each.content for each in contents))
    if draw(st.booleans()):
        cut = draw(st.integers(1, 50))
        parts = [der.octets(whole[start : start + cut]) for start in range(0, len(whole), cut)]
        octets = der.encode(0x24, *parts, indefinite=draw(st.booleans()))
    else:
        octets = der.octets(whole)
    info = der.encode(
        0x30, der.name(der.DATA), der.tagged(0, octets), indefinite=draw(st.booleans())
    )
    pfx = der.encode(0x30, der.integer(3), info, mac, indefinite=draw(st.booleans()))
    return Asked(pfx, iterations)


@pytest.mark.filterwarnings("ignore:PKCS#12 bundle could not be parsed as DER")
@given(files(), st.sampled_from([None, b"password"]))
def test_too_many_iterations_are_refused_in_every_structure(
    asked: Asked, password: bytes | None
) -> None:
    """Whatever asks for them: the MAC, certificates, keys, bags in bags; together they count."""
    too_many = asked.iterations > MAX_ITERATIONS
    event("too many" if too_many else "accepted")
    if too_many:
        with pytest.raises(SecretDataError, match="iterations are computed"):
            open_pkcs12(asked.content, "it", password)
    elif asked.iterations < 10_000:  # more would take long, but is tested by the limit itself
        with suppress(ValueError, TypeError):
            open_pkcs12(asked.content, "it", password)


# --- Damaged files --------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """Some bytes changed, removed, repeated or inserted."""
    data = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(len(data) - 1, 0)))
        end = start + draw(st.integers(0, 8))
        match draw(st.sampled_from(["change", "remove", "repeat", "insert"])):
            case "change":
                data[start:end] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del data[start:end]
            case "repeat":
                data[start:start] = data[start:end]
            case _:
                data[start:start] = draw(st.binary(max_size=8))
    return bytes(data)


def pkcs12_file(
    password: bytes, algorithm: pkcs12.PBES | None, *, rsa: bool, mac: bool = True
) -> bytes:
    issued = RSA if rsa else LEAF
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if algorithm is not None:
        builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(10)
        builder = builder.key_cert_algorithm(algorithm).hmac_hash(SHA256() if mac else SHA1())
        encryption = builder.build(password)
    return pkcs12.serialize_key_and_certificates(
        b"name", issued.key, issued.certificate, [ROOT.certificate], encryption
    )


PASSWORD = b"password"
PKCS12_FILES = [
    pkcs12_file(PASSWORD, algorithm, rsa=rsa, mac=mac)
    for algorithm in (
        None,
        pkcs12.PBES.PBESv2SHA256AndAES256CBC,
        pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC,
    )
    for rsa in (False, True)
    for mac in (False, True)
]
PEM_FILES = [
    LEAF.key_pem + LEAF.pem + ROOT.pem,
    ROOT.pem + LEAF.pem + RSA.pem + RSA.key_pem,
    b"text\n" + LEAF.pem.replace(b"\n", b"\r\n") + b"\xef\xbb\xbf" + LEAF.key_pem,
    RSA.key.private_bytes(
        serialization.Encoding.PEM,
        PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(PASSWORD),
    )
    + RSA.pem,
    encode_block("ENCRYPTED PRIVATE KEY", der.shrouded_key(der.pbe(3))) + LEAF.pem,
    encode_block("PRIVATE KEY", der.rsa_key(600)) + LEAF.pem,
]


@pytest.mark.filterwarnings("ignore")
@given(damaged(st.sampled_from(PKCS12_FILES)), st.sampled_from([None, PASSWORD]))
@settings(max_examples=OF_SIGNATURES)
def test_what_the_library_reads_is_read(content: bytes, password: bytes | None) -> None:
    """With the same key and certificates, although the key is loaded by itself."""
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(content, password)
    except (ValueError, TypeError):
        with suppress(ValueError, TypeError, SecretDataError):
            open_pkcs12(content, "it", password)
        return
    event("read by the library")
    try:
        found, certificates = open_pkcs12(content, "it", password)
    except SecretDataError as error:
        assert "at most" in error.problem  # noqa: PT017 - a limit is the only reason
        return
    assert (found is None) is (key is None)
    if found is not None and key is not None:
        assert found.public_key() == key.public_key()
    expected = [certificate, *others] if certificate else others
    assert certificates == expected


@pytest.mark.filterwarnings("ignore")
@given(
    damaged(st.sampled_from([*PKCS12_FILES, *PEM_FILES]) | st.binary(max_size=100)),
    st.booleans(),
)
@settings(max_examples=OF_SIGNATURES)
def test_damaged_files_give_a_result_or_an_error_of_keyferry(content: bytes, text: bool) -> None:
    """In every parse job. Messages are one short line."""
    data = base64.encodebytes(content) if text else content
    for parse in (
        lambda: read_pkcs12(data, "it"),
        lambda: certs.certificate_pem(data, "it"),
        lambda: certs.private_key_pem(data, "it"),
        lambda: normalized_client_pem(data),
        lambda: sign_assertion(AssertionRequest(data, b"", b"{}")),
        lambda: sign_assertion(AssertionRequest(data, PASSWORD, b"{}", legacy=True)),
        lambda: tls_pair(data),
    ):
        try:
            parse()
        except KeyferryError as error:
            check_message(error)
    for kind in (MaterialKind.PEM, MaterialKind.PKCS12, MaterialKind.PKCS12_TO_PEM):
        for separate in (False, True):
            parsed = parse_material(KeyMaterial(kind, data, separate=separate))
            if separate and not parsed.problem and kind is not MaterialKind.PKCS12:
                assert parsed.certificates
                assert parsed.private_key


def tls_pair(data: bytes) -> None:
    """A Secret of type kubernetes.io/tls begins with the certificate of its key."""
    key = certs.private_key_pem(data, "it")
    chain = certs.chain_of_key(certs.certificate_pem(data, "it"), key)
    with suppress(ValueError):
        first, *_ = load_pem_x509_certificates(chain)
        public = serialization.load_pem_private_key(
            key, None, unsafe_skip_rsa_key_validation=True
        ).public_key()
        assert first.public_key() == public


# --- JSON Web Keys --------------------------------------------------------------------------------

NUMBERS = st.binary(max_size=80) | st.binary(min_size=1020, max_size=1030) | st.just(b"\1\0\1")
CURVES = st.sampled_from(["P-256", "P-384", "P-521", "P-256K", "SECP256K1", "P-512", ""])


@given(NUMBERS, NUMBERS, CURVES, st.sampled_from([MaterialKind.RSA_KEY, MaterialKind.EC_KEY]))
def test_numbers_of_a_public_key_give_pem_or_a_problem(
    first: bytes, second: bytes, curve: str, kind: MaterialKind
) -> None:
    """A key that is delivered can be loaded."""
    parsed = parse_material(KeyMaterial(kind, curve=curve, numbers=(first, second)))
    assert bool(parsed.pem) is not bool(parsed.problem)
    if parsed.pem:
        event("delivered")
        serialization.load_pem_public_key(parsed.pem)
