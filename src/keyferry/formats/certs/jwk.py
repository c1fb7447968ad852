"""Public keys, from the numbers of a JSON Web Key (RFC 7517, 7518) to PEM. [pure]

Beyond upstream, the curve secp256k1 (P-256K) is known.

Source: docs/reference/upstream-azure-provider.md#keys
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.errors import SecretDataError
from keyferry.formats.certs.limits import MAX_EXPONENT_BITS, check_key_bits

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def rsa_public_key_pem(modulus: bytes, exponent: bytes) -> bytes:
    """SubjectPublicKeyInfo in PEM for an RSA key; both numbers are big-endian.

    Raises:
        SecretDataError: they are no RSA key, or one that is too long.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    check_key_bits(_bits(modulus), "it")
    if _bits(exponent) > MAX_EXPONENT_BITS:
        raise SecretDataError(f"its e has more than {MAX_EXPONENT_BITS} bits")
    numbers = RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus))
    try:
        return _pem(numbers.public_key())
    except (ValueError, UnsupportedAlgorithm, OverflowError):
        raise SecretDataError("its n and e are no RSA key") from None


def ec_public_key_pem(curve: str, x: bytes, y: bytes) -> bytes:
    """SubjectPublicKeyInfo in PEM for a key on an elliptic curve; coordinates are big-endian.

    Raises:
        SecretDataError: the curve is unknown, or the point does not lie on it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicNumbers

    known_curve = _curve(curve)
    try:
        if max(_bits(x), _bits(y)) > known_curve.key_size:
            raise ValueError("a coordinate that is too long")
        numbers = EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), known_curve)
        return _pem(numbers.public_key())
    except (ValueError, UnsupportedAlgorithm, OverflowError):
        raise SecretDataError("its x and y are no point of its curve") from None


def _bits(number: bytes) -> int:
    return int.from_bytes(number).bit_length()


def _curve(name: str) -> EllipticCurve:
    from cryptography.hazmat.primitives.asymmetric import ec

    match name:
        case "P-256":
            return ec.SECP256R1()
        case "P-384":
            return ec.SECP384R1()
        case "P-521":
            return ec.SECP521R1()
        case "P-256K" | "SECP256K1":
            return ec.SECP256K1()
        case _:
            shown = "".join(char if char.isprintable() else "?" for char in name[:40])
            raise SecretDataError(f"curve {shown} is not supported")


def _pem(key: PublicKeyTypes) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
