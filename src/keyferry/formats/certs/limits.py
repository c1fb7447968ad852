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

from keyferry.errors import SecretDataError
from keyferry.formats.certs.der import (
    CONTEXT_0,
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    DerError,
    Element,
    read_element,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_INPUT_BYTES = 1024 * 1024
MAX_ITERATIONS = 1_000_000
MAX_KEY_BITS = 8192
MAX_EXPONENT_BITS = 256
"""FIPS 186-5 has the same limit for the public exponent of RSA."""
MAX_OBJECTS = 256
MAX_SCRYPT_BYTES = 32 * 1024 * 1024
MAX_SCRYPT_BLOCKS = 1 << 20

_DATA = bytes.fromhex("2a864886f70d010701")
_ENCRYPTED_DATA = bytes.fromhex("2a864886f70d010706")
_PKCS12_PBE = bytes.fromhex("2a864886f70d010c01")
"""The prefix of the PBE algorithms of PKCS#12."""
_PKCS5 = bytes.fromhex("2a864886f70d0105")
"""The prefix of PBES1, PBES2, PBKDF2 and PBMAC1."""
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_SHROUDED_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0102")
_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0101")
_SAFE_CONTENTS_BAG = bytes.fromhex("2a864886f70d010c0a0106")
_MAX_NESTED_BAGS = 8


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
    _check_sizes(read_element(der), source)
    _check_work(_derivations_of_key(read_element(der)), source)


def check_certificate(der: bytes, source: str) -> None:
    """Check the size of the public key in a certificate.

    Raises:
        SecretDataError: the key is too long.
        DerError: it is malformed.
    """
    signed = _sequence(read_element(der))[0]
    fields = [field for field in signed.children() if field.tag != CONTEXT_0]
    # serial number, signature algorithm, issuer, validity, subject, public key
    if len(fields) < 6:
        raise DerError("a certificate without a public key")
    _check_sizes(fields[5], source)


def check_pkcs12(der: bytes, source: str) -> None:
    """Check the iteration counts, the number of objects and the visible keys of PKCS#12.

    Raises:
        SecretDataError: it asks for more work than `MAX_ITERATIONS`, or contains too much.
        DerError: it is malformed, or not PKCS#12.
    """
    fields = _sequence(read_element(der))
    if len(fields) < 2 or fields[0].tag != INTEGER:
        raise DerError("not PKCS#12")
    algorithms: list[Element] = []
    iterations = _mac_iterations(fields[2], algorithms) if len(fields) > 2 else 0
    bags = 0
    for info in read_element(_content_octets(fields[1])).children():
        kind, *content = _sequence(info)
        if kind.content == _ENCRYPTED_DATA and content:
            algorithms.append(_content_algorithm(_explicit(content[0])))
        elif kind.content == _DATA:
            for bag in _bags(read_element(_content_octets(info))):
                bags += 1
                check_object_count(bags, source)
                algorithms += _check_bag(bag, source)
        else:
            raise DerError("PKCS#12 with an unknown kind of content")
    check_object_count(len(algorithms), source)
    _check_work(algorithms, source, iterations=iterations)


def _check_bag(bag: Sequence[Element], source: str) -> Iterator[Element]:
    """Check a key in a bag; yield the algorithm of an encrypted one."""
    if bag[0].content == _SHROUDED_KEY_BAG:
        yield from _derivations_of_key(_explicit(bag[1]))
    elif bag[0].content == _KEY_BAG:
        _check_sizes(_explicit(bag[1]), source)


def _bags(contents: Element) -> Iterator[Sequence[Element]]:
    """Yield the fields of all bags; a bag may contain bags."""
    levels = [iter(contents.children())]
    while levels:
        current = next(levels[-1], None)
        if current is None:
            levels.pop()
            continue
        bag = _sequence(current)
        if len(bag) < 2 or bag[0].tag != OBJECT_IDENTIFIER:
            raise DerError("a malformed bag")
        if bag[0].content == _SAFE_CONTENTS_BAG:
            if len(levels) > _MAX_NESTED_BAGS:
                raise DerError("bags are nested too deeply")
            levels.append(iter(_explicit(bag[1]).children()))
        else:
            yield bag


def _derivations_of_key(key: Element) -> Iterator[Element]:
    """Yield the encryption algorithm of PKCS#8; nothing for a key that is not encrypted."""
    children = _sequence(key)
    if len(children) == 2 and children[0].tag == SEQUENCE:
        yield children[0]


def _mac_iterations(mac: Element, algorithms: list[Element]) -> int:
    """Return the iteration count of the MAC; add its algorithm, which has a count in PBMAC1."""
    fields = _sequence(mac)
    if len(fields) < 2:
        raise DerError("a malformed MAC")
    algorithms.append(_sequence(fields[0])[0])
    return fields[2].small_integer() if len(fields) > 2 else 1


def _check_work(
    algorithms: Iterator[Element] | Sequence[Element], source: str, *, iterations: int = 0
) -> None:
    """Add up the iterations of all derivations."""
    for algorithm in algorithms:
        iterations += sum(_iterations_of(algorithm, source))
    if iterations > MAX_ITERATIONS:
        raise _work_error(f"{iterations:,} iterations of key derivation", source)


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
        raise _work_error("more memory or time of scrypt", source)


def _check_sizes(element: Element, source: str) -> None:
    """Check every number in a key: modulus, exponents, primes, parameters."""
    numbers = (each for each in walk(element, into_strings=True) if each.tag == INTEGER)
    bits = (each.integer_bits() for each in numbers)
    check_key_bits(max(bits, default=0), source)


def _sequence(element: Element) -> tuple[Element, ...]:
    if element.tag != SEQUENCE or not (children := element.children()):
        raise DerError("something else in place of a sequence")
    return children


def _explicit(element: Element) -> Element:
    if element.tag != CONTEXT_0:
        raise DerError("something else in place of a tagged value")
    return read_element(element.content)


def _content_octets(info: Element) -> bytes:
    """Return the bytes in a ContentInfo of type data."""
    kind, *content = _sequence(info)
    if kind.content != _DATA or not content:
        raise DerError("something else in place of data")
    octets = _explicit(content[0])
    if octets.tag & 0x1F != OCTET_STRING:
        raise DerError("something else in place of octets")
    return octets.octets()


def _content_algorithm(encrypted: Element) -> Element:
    """Return the algorithm of an EncryptedData."""
    fields = _sequence(encrypted)
    content = _sequence(fields[1]) if len(fields) > 1 else ()
    if len(content) < 2:
        raise DerError("malformed encrypted contents")
    return content[1]


def _work_error(amount: str, source: str) -> SecretDataError:
    return SecretDataError(
        f"{source} asks for {amount}; at most {MAX_ITERATIONS:,} iterations are computed",
        "Export it again with fewer iterations, for example with openssl pkcs12 -export -iter "
        "10000.",
    )
