"""Keys: create them, and convert them from and to JSON Web Keys. [pure]"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from keyferry.errors import RequestInvalidError
from keyferry.formats.base64url import decode_base64url, encode_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

RSA_SIZES = (2048, 3072, 4096)
CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "P-256K": ec.SECP256K1,
}
KEY_TYPES = ("RSA", "RSA-HSM", "EC", "EC-HSM")
_REMEDY = f"Use one of {', '.join(KEY_TYPES)}."


def generate_key(kind: str, *, size: int = 2048, curve: str = "P-256") -> PrivateKey:
    """Create a key.

    Args:
        kind: one of `KEY_TYPES`; the suffix -HSM makes no difference.
        size: size of an RSA key in bits.
        curve: curve of an EC key, one of `CURVES`.

    Raises:
        RequestInvalidError: the kind, size or curve is unknown.
    """
    match kind:
        case "RSA" | "RSA-HSM" if size in RSA_SIZES:
            return rsa.generate_private_key(public_exponent=65537, key_size=size)
        case "EC" | "EC-HSM" if curve in CURVES:
            return ec.generate_private_key(CURVES[curve]())
        case "RSA" | "RSA-HSM":
            raise RequestInvalidError(
                f"an RSA key cannot have {size} bits",
                f"Use one of {', '.join(map(str, RSA_SIZES))}.",
            )
        case "EC" | "EC-HSM":
            raise RequestInvalidError(
                f"there is no curve {curve!r}", f"Use one of {', '.join(CURVES)}."
            )
        case _:
            raise RequestInvalidError(f"there is no key type {kind!r}", _REMEDY)


def key_pem(key: PrivateKey) -> str:
    """Return a private key as PKCS#8 in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def public_pem(key: PrivateKey) -> str:
    """Return a public key as SubjectPublicKeyInfo in PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def key_kind(key: PrivateKey) -> str:
    """Return the `kty` of a key, without the suffix -HSM."""
    return "RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC"


def parse_key(pem: bytes) -> PrivateKey:
    """Return the private key in `pem`, which may have any PEM format.

    Raises:
        RequestInvalidError: it has no key, or one that a vault does not accept.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, PrivateKey):
        return key
    # Not chained: the exception may quote the key.
    raise RequestInvalidError("it holds no unencrypted RSA or EC key in PEM", _REMEDY) from None


def public_jwk(key: PrivateKey, kind: str) -> dict[str, object]:
    """Return the public key as a vault shows it, without its ID."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        operations = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
        return {
            "kty": kind,
            "key_ops": operations,
            "n": _int_to_base64url(numbers.n, (numbers.n.bit_length() + 7) // 8),
            "e": _int_to_base64url(numbers.e, 3),
        }
    point, length = key.public_key().public_numbers(), (key.key_size + 7) // 8
    curve = next(name for name, made in CURVES.items() if isinstance(key.curve, made))
    return {
        "kty": kind,
        "key_ops": ["sign", "verify"],
        "crv": curve,
        "x": _int_to_base64url(point.x, length),
        "y": _int_to_base64url(point.y, length),
    }


def private_key_from_jwk(jwk: Mapping[str, str]) -> PrivateKey:
    """Return the private key in a JSON Web Key.

    Raises:
        RequestInvalidError: it is not a private RSA or EC key.
    """
    try:
        if jwk.get("kty", "").startswith("RSA"):
            n, e, d, p, q = (_base64url_to_int(jwk[name]) for name in ("n", "e", "d", "p", "q"))
            public = rsa.RSAPublicNumbers(e, n)
            rest = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
            return rsa.RSAPrivateNumbers(p, q, d, *rest, public).private_key()
        curve = CURVES[jwk["crv"]]()
        point = ec.EllipticCurvePublicNumbers(
            _base64url_to_int(jwk["x"]), _base64url_to_int(jwk["y"]), curve
        )
        return ec.EllipticCurvePrivateNumbers(_base64url_to_int(jwk["d"]), point).private_key()
    except (KeyError, ValueError, binascii.Error, UnsupportedAlgorithm):
        # Not chained: the exception may quote the key.
        problem = "it is no private JSON Web Key of a known type"
        raise RequestInvalidError(problem, _REMEDY) from None


def _int_to_base64url(number: int, length: int) -> str:
    return encode_base64url(number.to_bytes(length))


def _base64url_to_int(text: str) -> int:
    return int.from_bytes(decode_base64url(text))
