"""JSON Web Tokens: signing (RS256), verifying (also PS256, ES256) (RFC 7515 to 7519). [pure]"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, Hash
from cryptography.x509 import load_pem_x509_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class JwtError(Exception):
    """The token or the JWKS is malformed, or the signature is wrong. Never quotes either."""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    sha1: str | None = msgspec.field(name="x5t", default=None)
    sha256: str | None = msgspec.field(name="x5t#S256", default=None)


class JwtClaims(msgspec.Struct, frozen=True):
    """The claims that the development vault reads; `aud` may be one text or several."""

    iss: str = ""
    sub: str = ""
    aud: str | list[str] = ""
    exp: float = 0
    nbf: float = 0
    tid: str = ""
    appid: str = ""
    oid: str = ""

    def audiences(self) -> tuple[str, ...]:
        """All audiences."""
        return (self.aud,) if isinstance(self.aud, str) else tuple(self.aud)


class Jwk(msgspec.Struct, frozen=True, omit_defaults=True):
    """One public key (RFC 7518, section 6)."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    n: str | None = None
    e: str | None = None
    crv: str | None = None
    x: str | None = None
    y: str | None = None


class Jwks(msgspec.Struct, frozen=True):
    """A set of public keys, as an issuer publishes it."""

    keys: list[Jwk]


@dataclass(frozen=True, slots=True)
class UnverifiedJwt:
    """A token that was taken apart but not yet believed."""

    algorithm: str
    key_id: str | None
    claims: JwtClaims
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    thumbprints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AppCertificate:
    """A certificate that an app is known by.

    Attributes:
        key: its public key.
        thumbprints: its SHA-1 and SHA-256 digests, as headers of tokens write them.
    """

    key: rsa.RSAPublicKey
    thumbprints: frozenset[str]


def sign_jwt(claims: Mapping[str, object], key: rsa.RSAPrivateKey) -> str:
    """The compact form of a token with `claims`, signed with RS256."""
    header = {"alg": "RS256", "typ": "JWT", "kid": jwk_thumbprint(key.public_key())}
    signed = b".".join(
        (
            _base64url_encode(msgspec.json.encode(header)),
            _base64url_encode(msgspec.json.encode(claims)),
        )
    )
    signature = key.sign(signed, padding.PKCS1v15(), SHA256())
    return b".".join((signed, _base64url_encode(signature))).decode()


def parse_jwt(token: str) -> UnverifiedJwt:
    """Take `token` apart without believing any of it.

    Raises:
        JwtError: it is not three parts of base64url that hold the JSON that they should.
    """
    try:
        header_text, claims_text, signature_text = token.encode("ascii").split(b".")
        header = msgspec.json.decode(_base64url_decode(header_text), type=_Header)
        claims = msgspec.json.decode(_base64url_decode(claims_text), type=JwtClaims)
        signature = _base64url_decode(signature_text)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        # The text of these errors can quote the token.
        raise JwtError("it is not a well-formed JWT") from None
    thumbprints = frozenset(text.rstrip("=") for text in (header.sha1, header.sha256) if text)
    signed = header_text + b"." + claims_text
    return UnverifiedJwt(header.alg, header.kid, claims, signed, signature, thumbprints)


def verify_jwt(token: UnverifiedJwt, jwks: Jwks) -> None:
    """Check the signature of `token` with the keys of `jwks`.

    Raises:
        JwtError: no key of the set made the signature, or a key is unusable.
    """
    candidates = [key for key in jwks.keys if token.key_id is None or key.kid == token.key_id]
    if not candidates:
        raise JwtError("its key id is not in the JWKS of its issuer")
    if not any(_has_valid_signature(token, public_key(key)) for key in candidates):
        raise JwtError("its signature is wrong")


def parse_app_certificate(pem: str) -> AppCertificate:
    """The certificate in `pem`.

    Raises:
        JwtError: it is none, or its key is not RSA.
    """
    try:
        certificate = load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise JwtError("it is not a PEM certificate") from None
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise JwtError("its key is not RSA")
    digests = (certificate.fingerprint(SHA1()), certificate.fingerprint(SHA256()))  # noqa: S303
    return AppCertificate(key, frozenset(_base64url_encode(digest).decode() for digest in digests))


def is_signed_by_certificate(token: UnverifiedJwt, certificate: AppCertificate) -> bool:
    """Whether `token` names `certificate` and the key of that has signed it."""
    named = bool(token.thumbprints & certificate.thumbprints)
    return named and _has_valid_signature(token, certificate.key)


def parse_jwks(text: str | bytes) -> Jwks:
    """The keys of a JWKS document, each of them usable.

    Raises:
        JwtError: it is no JWKS, it is empty, or it holds a key that is neither RSA nor EC P-256.
    """
    try:
        jwks = msgspec.json.decode(text, type=Jwks)
    except msgspec.DecodeError as error:
        raise JwtError(f"it is not a JWKS: {error}") from error
    if not jwks.keys:
        raise JwtError("it holds no key")
    for key in jwks.keys:
        public_key(key)
    return jwks


def public_key(jwk: Jwk) -> PublicKey:
    """The key that `jwk` describes.

    Raises:
        JwtError: it is neither RSA nor EC P-256, or its numbers make no key.
    """
    try:
        match jwk:
            case Jwk(kty="RSA", n=str(n), e=str(e)):
                return rsa.RSAPublicNumbers(_base64url_to_int(e), _base64url_to_int(n)).public_key()
            case Jwk(kty="EC", crv="P-256", x=str(x), y=str(y)):
                curve = ec.SECP256R1()
                return ec.EllipticCurvePublicNumbers(
                    _base64url_to_int(x), _base64url_to_int(y), curve
                ).public_key()
    except (ValueError, binascii.Error) as error:
        raise JwtError(f"the key {jwk.kid!r} is malformed: {error}") from error
    raise JwtError(f"the key {jwk.kid!r} is neither RSA nor EC P-256 (kty {jwk.kty!r})")


def to_jwk(key: rsa.RSAPublicKey) -> Jwk:
    """The published form of `key`."""
    numbers = key.public_numbers()
    return Jwk(
        kty="RSA",
        kid=jwk_thumbprint(key),
        use="sig",
        alg="RS256",
        n=_base64url_encode(_int_to_bytes(numbers.n)).decode(),
        e=_base64url_encode(_int_to_bytes(numbers.e)).decode(),
    )


def jwk_thumbprint(key: rsa.RSAPublicKey) -> str:
    """The thumbprint of `key` (RFC 7638)."""
    numbers = key.public_numbers()
    thumb = Hash(SHA256())
    thumb.update(
        b'{"e":"%s","kty":"RSA","n":"%s"}'
        % (_base64url_encode(_int_to_bytes(numbers.e)), _base64url_encode(_int_to_bytes(numbers.n)))
    )
    return _base64url_encode(thumb.finalize()).decode()


_RSA_PADDINGS: Mapping[str, padding.AsymmetricPadding] = {
    "RS256": padding.PKCS1v15(),
    "PS256": padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH),
}


def _has_valid_signature(token: UnverifiedJwt, key: PublicKey) -> bool:
    try:
        match key:
            case rsa.RSAPublicKey():
                scheme = _RSA_PADDINGS.get(token.algorithm)
                if scheme is None:
                    return False
                key.verify(token.signature, token.signing_input, scheme, SHA256())
            case ec.EllipticCurvePublicKey():
                if token.algorithm != "ES256" or len(token.signature) != 64:
                    return False
                r, s = token.signature[:32], token.signature[32:]
                der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
                key.verify(der, token.signing_input, ec.ECDSA(SHA256()))
            case _:
                assert_never(key)
    except InvalidSignature:
        return False
    return True


def _base64url_encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _base64url_decode(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _base64url_to_int(text: str) -> int:
    return int.from_bytes(_base64url_decode(text.encode("ascii")))


def _int_to_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
