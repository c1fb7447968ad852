"""Key material that costs far more to read than to make."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

HUGE_COUNT = 0x7FFFFFFF
# --- DER -----------------------------------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    """Return one DER element."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def sequence(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def octets(content: bytes) -> bytes:
    return der(0x04, content)


def integer(number: int) -> bytes:
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def oid(text: str) -> bytes:
    first, second, *others = map(int, text.split("."))
    content = bytes([first * 40 + second])
    for number in others:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        content += bytes(reversed(groups))
    return der(0x06, content)


DATA, ENCRYPTED_DATA = oid("1.2.840.113549.1.7.1"), oid("1.2.840.113549.1.7.6")
SHROUDED_KEY = oid("1.2.840.113549.1.12.10.1.2")
PBES2, PBKDF2 = oid("1.2.840.113549.1.5.13"), oid("1.2.840.113549.1.5.12")
HMAC_SHA256, AES_256_CBC = oid("1.2.840.113549.2.9"), oid("2.16.840.1.101.3.4.1.42")
SHA256 = oid("2.16.840.1.101.3.4.2.1")
SCRYPT = oid("1.3.6.1.4.1.11591.4.11")
NULL = b"\x05\x00"


# --- PKCS #12 ------------------------------------------------------------------------------------


def self_signed(key: PrivateKey) -> x509.Certificate:
    """Return a self-signed certificate."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hostile")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )


def pkcs12_with_cipher_count() -> bytes:
    """Return a PKCS #12 whose contents are encrypted with a huge iteration count."""
    return pkcs12_of(encrypted_data(pbes2(pbkdf2(HUGE_COUNT), bytes(16)), os.urandom(48)))


def pkcs12_with_mac_count() -> bytes:
    """Return an empty PKCS #12 whose MAC has a huge iteration count."""
    digest = sequence(sequence(SHA256, NULL), octets(os.urandom(32)))
    return pkcs12_of(mac=sequence(digest, octets(os.urandom(8)), integer(HUGE_COUNT)))


def pkcs12_with_hidden_count() -> bytes:
    """Return a PKCS #12 whose huge count can be seen only after its outer layer is decrypted."""
    bag = sequence(SHROUDED_KEY, der(0xA0, encrypted_key(pbkdf2(HUGE_COUNT))))
    return pkcs12_of(encrypted(sequence(bag), count=2048))


def pkcs12_with_many_layers(layers: int = 100) -> bytes:
    """Return a PKCS #12 with many encrypted contents, none of which has a huge count."""
    return pkcs12_of(*[encrypted(sequence(), count=1_000_000)] * layers)


def pkcs12_of(*contents: bytes, mac: bytes = b"") -> bytes:
    """Return a PKCS #12 of these contents."""
    return sequence(integer(3), sequence(DATA, der(0xA0, octets(sequence(*contents)))), mac)


def encrypted(contents: bytes, *, count: int) -> bytes:
    """Encrypt contents with an empty password."""
    salt, vector = os.urandom(8), os.urandom(16)
    key = PBKDF2HMAC(hashes.SHA256(), 32, salt, count).derive(b"")
    padding = 16 - len(contents) % 16
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(vector)).encryptor()
    content = encryptor.update(contents + bytes([padding]) * padding) + encryptor.finalize()
    return encrypted_data(pbes2(pbkdf2(count, salt), vector), content)


def encrypted_data(algorithm: bytes, content: bytes) -> bytes:
    """Return encrypted contents."""
    info = sequence(DATA, algorithm, der(0x80, content))
    return sequence(ENCRYPTED_DATA, der(0xA0, sequence(integer(0), info)))


def pbkdf2(count: int, salt: bytes = b"saltsalt") -> bytes:
    """Return the key derivation PBKDF2 with HMAC-SHA256."""
    return sequence(PBKDF2, sequence(octets(salt), integer(count), sequence(HMAC_SHA256, NULL)))


def scrypt(cost: int, block: int, parallel: int) -> bytes:
    """Return the key derivation scrypt."""
    return sequence(
        SCRYPT, sequence(octets(b"saltsalt"), integer(cost), integer(block), integer(parallel))
    )


def pbes2(derivation: bytes, vector: bytes) -> bytes:
    """Return an encryption with AES-256-CBC."""
    return sequence(PBES2, sequence(derivation, sequence(AES_256_CBC, octets(vector))))


def encrypted_key(derivation: bytes) -> bytes:
    """Return an EncryptedPrivateKeyInfo; its content does not matter."""
    return sequence(pbes2(derivation, bytes(16)), octets(os.urandom(160)))


# --- PEM -----------------------------------------------------------------------------------------


def pem(label: str, content: bytes) -> str:
    """Return one PEM block."""
    text = base64.encodebytes(content).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"


def certificate_pem(key: PrivateKey) -> str:
    """Return a self-signed certificate of a key."""
    return self_signed(key).public_bytes(Encoding.PEM).decode()


def key_pem(key: PrivateKey) -> str:
    """Return a private key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def encrypted_key_pem(derivation: bytes) -> str:
    """Return an encrypted private key."""
    return pem("ENCRYPTED PRIVATE KEY", encrypted_key(derivation))


def legacy_encrypted_key_pem() -> str:
    """Return a private key in the encrypted format of OpenSSL before PKCS #8."""
    body = base64.encodebytes(os.urandom(160)).decode()
    head = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n"
    return f"-----BEGIN RSA PRIVATE KEY-----\n{head}{body}-----END RSA PRIVATE KEY-----\n"


# --- RSA -----------------------------------------------------------------------------------------


def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """Return a valid RSA key of 8192 or 16384 bits without a search for primes.

    Its factors are the primes of that size that RFC 3526 and RFC 7919 define for Diffie-Hellman.
    """
    half = bits // 2
    pi_offset, e_offset = {4096: (240904, 5736041), 8192: (4743158, 10965728)}[half]
    shift = half - 130
    p = 2**half - 2 ** (half - 64) - 1 + 2**64 * (_pi(shift) + pi_offset)
    q = 2**half - 2 ** (half - 64) - 1 + 2**64 * (_e(shift) + e_offset)
    exponent = 65537
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), public
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def _pi(shift: int) -> int:
    """Return the integer part of pi * 2 ** shift, by Machin's formula."""
    spare = 64
    one = 1 << (shift + spare)

    def inverse_tangent(of: int) -> int:
        total = power = one // of
        number, sign = 3, -1
        while power:
            power //= of * of
            total += sign * (power // number)
            number, sign = number + 2, -sign
        return total

    return (4 * (4 * inverse_tangent(5) - inverse_tangent(239))) >> spare


def _e(shift: int) -> int:
    """Return the integer part of e * 2 ** shift."""
    spare = 64
    total = term = 1 << (shift + spare)
    number = 1
    while term:
        term //= number
        total += term
        number += 1
    return total >> spare
