"""Bounds the work that key material asks for, before a library does it. [pure]

The checks read only the structure. What they cannot see is what encryption hides: the encrypted
contents of PKCS#12 may contain a further encrypted key with an iteration count of its own. That is
what the limit on the CPU time of the parser process is for.

* 1 MiB of input: a Secret cannot be larger.
* 1,000,000 iterations in one input. For each derivation OpenSSL writes 2,048, Windows 2,000,
  keytool 10,000 and NSS 100,000; OWASP recommends 600,000.
* 32 MiB and 2^20 block operations of scrypt. OpenSSL writes 16 MiB and 2^17.
* 8,192 bits of RSA, DSA or DH. Key Vault supports up to 4,096.
* 256 certificates and keys in one input. All public CAs together are about 150.

Source: https://www.rfc-editor.org/rfc/rfc7292
Source: https://www.rfc-editor.org/rfc/rfc8018
Source: https://www.rfc-editor.org/rfc/rfc7914
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.errors import SecretDataError
from keyferry.formats.certs.der import (
    CONTEXT_0,
    INTEGER,
    OBJECT_IDENTIFIER,
    SEQUENCE,
    DerError,
    Element,
    read_element,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_INPUT_BYTES = 1024 * 1024
MAX_ITERATIONS = 1_000_000
MAX_KEY_BITS = 8192
MAX_EXPONENT_BITS = 256
"""FIPS 186-5 has the same limit for the public exponent of RSA."""
MAX_OBJECTS = 256
MAX_SCRYPT_BYTES = 32 * 1024 * 1024
MAX_SCRYPT_BLOCKS = 1 << 20

_PKCS12_PBE = bytes.fromhex("2a864886f70d010c01")
"""The prefix of the PBE algorithms of PKCS#12."""
_PKCS5 = bytes.fromhex("2a864886f70d0105")
"""The prefix of PBES1, PBES2, PBKDF2 and PBMAC1."""
_SCRYPT = bytes.fromhex("2b06010401da47040b")


def check_input_size(contents: bytes, source: str) -> None:
    """Refuse input that is larger than a Secret can be.

    Raises:
        SecretDataError: it is too large.
    """
    if len(contents) > MAX_INPUT_BYTES:
        raise SecretDataError(
            f"{source} has {len(contents)} bytes; at most {MAX_INPUT_BYTES} are parsed",
            "Store each key with its own certificates in an object of its own.",
        )


def check_object_count(count: int, source: str) -> None:
    """Refuse more certificates and keys than any bundle has.

    Raises:
        SecretDataError: there are too many.
    """
    if count > MAX_OBJECTS:
        raise SecretDataError(
            f"{source} holds more than {MAX_OBJECTS} certificates and keys",
            "Store each key with its own certificates in an object of its own.",
        )


def check_key_bits(bits: int, source: str) -> None:
    """Refuse an RSA, DSA or DH key that is too long.

    Raises:
        SecretDataError: it is longer than `MAX_KEY_BITS`.
    """
    if bits > MAX_KEY_BITS:
        raise SecretDataError(
            f"{source} holds a key of {bits} bits; at most {MAX_KEY_BITS} are parsed",
            "Use an RSA key of 2048 to 8192 bits, or a key on an elliptic curve.",
        )


def check_key(der: bytes, source: str) -> None:
    """Check the sizes in a private key, encrypted or not, and in a SubjectPublicKeyInfo.

    Args:
        der: PKCS#8, PKCS#1, SEC1 or SubjectPublicKeyInfo.
        source: what contains it, for messages.

    Raises:
        SecretDataError: the key is too long, or its encryption asks for too much work.
        DerError: it is malformed.
    """
    check_sizes(read_element(der), source)
    check_work(derivations_of_key(read_element(der)), source)


def check_certificate(der: bytes, source: str) -> None:
    """Check the size of the public key in a certificate.

    Raises:
        SecretDataError: the key is too long.
        DerError: it is malformed.
    """
    check_sizes(_certificate_fields(der)[5], source)


class CertificateNames(Struct, frozen=True):
    """The encoded names of the subject and of the issuer of a certificate."""

    subject: bytes
    issuer: bytes


def certificate_names(der: bytes) -> CertificateNames:
    """Return the names in a certificate.

    Raises:
        DerError: it is malformed.
    """
    fields = _certificate_fields(der)
    return CertificateNames(subject=fields[4].content, issuer=fields[2].content)


def _certificate_fields(der: bytes) -> list[Element]:
    """Return serial number, signature algorithm, issuer, validity, subject, public key, ..."""
    signed = read_element(der).sequence()[0]
    fields = [field for field in signed.children() if field.tag != CONTEXT_0]
    if len(fields) < 6:
        raise DerError("a certificate without a public key")
    return fields


def derivations_of_key(key: Element) -> tuple[Element, ...]:
    """Return the encryption algorithm of PKCS#8; nothing for a key that is not encrypted."""
    children = key.sequence()
    return children[:1] if len(children) == 2 and children[0].tag == SEQUENCE else ()


def check_work(algorithms: Iterable[Element], source: str, *, iterations: int = 0) -> None:
    """Add up the iterations of all derivations in one input.

    Args:
        algorithms: AlgorithmIdentifiers, password-based or not.
        source: what contains them, for messages.
        iterations: further iterations.

    Raises:
        SecretDataError: they are too many, or scrypt needs too much.
        DerError: an algorithm is malformed.
    """
    for algorithm in algorithms:
        iterations += sum(_iterations_of(algorithm, source))
    if iterations > MAX_ITERATIONS:
        raise SecretDataError(
            f"{source} asks for {iterations:,} iterations of key derivation; at most "
            f"{MAX_ITERATIONS:,} iterations are computed",
            "Export it again with fewer iterations, for example with openssl pkcs12 -export -iter "
            "10000.",
        )


def _iterations_of(algorithm: Element, source: str) -> Iterator[int]:
    """Yield the largest number in the parameters of each password-based algorithm.

    It is the iteration count: the other numbers are lengths of keys.
    """
    for element in walk(algorithm):
        if element.tag != SEQUENCE:
            continue
        name, *parameters = element.children() or (element,)
        if name.tag != OBJECT_IDENTIFIER or not parameters:
            continue
        if not parameters[0].is_constructed:
            continue
        numbers = [each.small_integer() for each in parameters[0].children() if each.tag == INTEGER]
        if name.content == _SCRYPT:
            _check_scrypt(numbers, source)
        elif name.content.startswith((_PKCS12_PBE, _PKCS5)):
            yield max(numbers, default=0)


def _check_scrypt(numbers: Sequence[int], source: str) -> None:
    if len(numbers) < 3:
        raise DerError("malformed parameters of scrypt")
    cost, block_size, parallel = numbers[:3]
    if 128 * cost * block_size > MAX_SCRYPT_BYTES or (
        cost * block_size * parallel > MAX_SCRYPT_BLOCKS
    ):
        raise SecretDataError(
            f"{source} asks for scrypt with more than {MAX_SCRYPT_BYTES >> 20} MiB of memory or "
            f"{MAX_SCRYPT_BLOCKS:,} block operations",
            "Encrypt it again with the default parameters of openssl pkcs8 -topk8 -scrypt.",
        )


def check_sizes(element: Element, source: str) -> None:
    """Check every number in a key: modulus, exponents, primes, parameters.

    Raises:
        SecretDataError: one is too long.
        DerError: the key is malformed.
    """
    numbers = (each for each in walk(element, into_strings=True) if each.tag == INTEGER)
    bits = (each.integer_bits() for each in numbers)
    check_key_bits(max(bits, default=0), source)
