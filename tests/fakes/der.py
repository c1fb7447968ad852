"""Writes DER and BER, and PKCS#12 that asks for too much work."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from keyferry.formats.certs.der import (
    INTEGER,
    OBJECT_IDENTIFIER,
    OCTET_STRING,
    SEQUENCE,
    DerError,
    Element,
    read_element,
)

DATA = bytes.fromhex("2a864886f70d010701")
ENCRYPTED_DATA = bytes.fromhex("2a864886f70d010706")
PBES2 = bytes.fromhex("2a864886f70d01050d")
PBKDF2 = bytes.fromhex("2a864886f70d01050c")
PBMAC1 = bytes.fromhex("2a864886f70d01050e")
PBE_3DES = bytes.fromhex("2a864886f70d010c0103")
SCRYPT = bytes.fromhex("2b06010401da47040b")
AES_256_CBC = bytes.fromhex("60864801650304012a")
SHROUDED_KEY_BAG = bytes.fromhex("2a864886f70d010c0a0102")
KEY_BAG = bytes.fromhex("2a864886f70d010c0a0101")
SAFE_CONTENTS_BAG = bytes.fromhex("2a864886f70d010c0a0106")


def encode(tag: int, *parts: bytes, indefinite: bool = False) -> bytes:
    """Return one value, with a definite length unless `indefinite`."""
    content = b"".join(parts)
    if indefinite:
        return bytes((tag, 0x80)) + content + b"\0\0"
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*parts: bytes) -> bytes:
    return encode(SEQUENCE, *parts)


def integer(value: int) -> bytes:
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def octets(content: bytes) -> bytes:
    return encode(OCTET_STRING, content)


def name(identifier: bytes) -> bytes:
    return encode(OBJECT_IDENTIFIER, identifier)


def tagged(number: int, content: bytes) -> bytes:
    return encode(0xA0 | number, content)


def pbe(iterations: int) -> bytes:
    """The algorithm pbeWithSHAAnd3-KeyTripleDES-CBC."""
    return sequence(name(PBE_3DES), sequence(octets(b"saltsalt"), integer(iterations)))


def pbes2(derivation: bytes) -> bytes:
    cipher = sequence(name(AES_256_CBC), octets(b"i" * 16))
    return sequence(name(PBES2), sequence(derivation, cipher))


def pbkdf2(iterations: int) -> bytes:
    return sequence(name(PBKDF2), sequence(octets(b"saltsalt"), integer(iterations)))


def scrypt(cost: int, block_size: int, parallel: int) -> bytes:
    numbers = map(integer, (cost, block_size, parallel))
    return sequence(name(SCRYPT), sequence(octets(b"saltsalt"), *numbers))


def data(content: bytes) -> bytes:
    """A ContentInfo of type data."""
    return sequence(name(DATA), tagged(0, octets(content)))


def encrypted_data(algorithm: bytes) -> bytes:
    """A ContentInfo of type encryptedData."""
    content = sequence(name(DATA), algorithm, encode(0x80, b"x" * 16))
    return sequence(name(ENCRYPTED_DATA), tagged(0, sequence(integer(0), content)))


def shrouded_key(algorithm: bytes) -> bytes:
    """Encrypted PKCS#8."""
    return sequence(algorithm, octets(b"x" * 16))


def bag(kind: bytes, content: bytes) -> bytes:
    return sequence(name(kind), tagged(0, content))


def mac(iterations: int, algorithm: bytes | None = None) -> bytes:
    algorithm = algorithm or sequence(name(bytes.fromhex("2b0e03021a")), encode(5))
    return sequence(sequence(algorithm, octets(b"d" * 20)), octets(b"salt"), integer(iterations))


def pkcs12(*infos: bytes, mac_data: bytes = b"") -> bytes:
    """A PFX with these ContentInfos."""
    return sequence(integer(3), data(sequence(*infos)), mac_data)


def rsa_key(bits: int) -> bytes:
    """PKCS#8 with numbers of these sizes, which are no key."""
    number = integer((1 << bits) - 1)
    key = sequence(integer(0), number, integer(65537), *[number] * 6)
    algorithm = sequence(name(bytes.fromhex("2a864886f70d010101")), encode(5))
    return sequence(integer(0), algorithm, octets(key))


def with_iterations(der: bytes, iterations: int) -> bytes:
    """Return DER in which every iteration count of a password-based algorithm is another one.

    An iteration count is the number that follows a salt, as in real files.
    """
    return _rewrite(read_element(der), lambda _: integer(iterations))


def _rewrite(element: Element, change: Callable[[Element], bytes]) -> bytes:
    if element.is_constructed:
        children = list(element.children())
        written = [_rewrite(child, change) for child in children]
        for number, (salt, count) in enumerate(pairwise(children)):
            if (salt.tag, count.tag) == (OCTET_STRING, INTEGER):
                written[number + 1] = change(count)
        return encode(element.tag, *written)
    if element.tag == OCTET_STRING and element.content[:1] == bytes((SEQUENCE,)):
        try:
            return octets(_rewrite(read_element(element.content), change))
        except DerError:
            pass
    return encode(element.tag, element.content)
