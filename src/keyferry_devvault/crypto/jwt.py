"""JSON Web Tokens: signing (RS256), verifying (also PS256 and ES256), and key sets. [pure]

joserfc signs, verifies and converts keys. This module adds what Entra ID does: it reads claims
before it verifies the signature, lets the key decide about the algorithm, knows the certificates of
an app by their thumbprints, and accepts base64url with padding, which azure-identity sends and
joserfc's own parser refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from msgspec import Struct

from keyferry.formats.base64url import decode_base64url, encode_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping


class JwtError(Exception):
    """The token or the JWKS is malformed, or the signature is wrong. Never quotes either."""


_RSA_ALGORITHMS = JWSRegistry(algorithms=["RS256", "PS256"])
_EC_ALGORITHMS = JWSRegistry(algorithms=["ES256"])


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    sha1: str | None = msgspec.field(name="x5t", default=None)
    sha256: str | None = msgspec.field(name="x5t#S256", default=None)


class JwtClaims(msgspec.Struct, frozen=True):
    """The claims that the emulator reads; `aud` is one text or several."""

    iss: str = ""
    sub: str = ""
    aud: str | list[str] = ""
    exp: float = 0
    nbf: float = 0
    tid: str = ""
    appid: str = ""
    oid: str = ""

    def audiences(self) -> tuple[str, ...]:
        """Return all audiences."""
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
    """A decoded token whose signature has not been verified.

    Attributes:
        algorithm: the `alg` of its header.
        key_id: the `kid` of its header, if any.
        claims: its claims.
        signing_input: what is signed: header and claims as they were sent.
        signature: the decoded signature.
        thumbprints: the certificate thumbprints in its header, in base64url.
    """

    algorithm: str
    key_id: str | None
    claims: JwtClaims
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    thumbprints: frozenset[str] = frozenset()


class AppCertificate(Struct, frozen=True):
    """A certificate that is registered for an app.

    Attributes:
        key: its public key.
        thumbprints: its SHA-1 and SHA-256 digests, in base64url.
    """

    key: rsa.RSAPublicKey
    thumbprints: frozenset[str]


def sign_jwt(claims: Mapping[str, object], key: rsa.RSAPrivateKey) -> str:
    """Return a token with `claims` in compact form, signed with RS256."""
    signer = RSAKey.import_key(key)
    header = {"alg": "RS256", "typ": "JWT", "kid": signer.thumbprint()}
    return jws.serialize_compact(header, msgspec.json.encode(claims), signer)


def parse_jwt(token: str) -> UnverifiedJwt:
    """Decode `token` without verifying it.

    Raises:
        JwtError: it is not a JWT.
    """
    try:
        header_text, claims_text, signature_text = token.split(".")
        header = msgspec.json.decode(decode_base64url(header_text), type=_Header)
        claims = msgspec.json.decode(decode_base64url(claims_text), type=JwtClaims)
        signature = decode_base64url(signature_text)
    except (ValueError, msgspec.DecodeError):
        # The text of these errors can quote the token.
        raise JwtError("it is not a well-formed JWT") from None
    return UnverifiedJwt(
        header.alg,
        header.kid,
        claims,
        f"{header_text}.{claims_text}".encode(),
        signature,
        frozenset(text.rstrip("=") for text in (header.sha1, header.sha256) if text),
    )


def verify_jwt(token: UnverifiedJwt, jwks: Jwks) -> None:
    """Verify the signature of `token` with the keys of `jwks`.

    Raises:
        JwtError: no key of the set made the signature, or a key is unusable.
    """
    candidates = [key for key in jwks.keys if token.key_id is None or key.kid == token.key_id]
    if not candidates:
        raise JwtError("its key id is not in the JWKS of its issuer")
    if not any(_has_valid_signature(token, public_key(key)) for key in candidates):
        raise JwtError("its signature is wrong")


def parse_app_certificate(pem: str) -> AppCertificate:
    """Return the certificate in `pem`.

    Raises:
        JwtError: it is not a PEM certificate, or its key is not an RSA key.
    """
    try:
        certificate = load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise JwtError("it is not a PEM certificate") from None
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise JwtError("its key is not RSA")
    digests = (certificate.fingerprint(SHA1()), certificate.fingerprint(SHA256()))  # noqa: S303
    return AppCertificate(key, frozenset(map(encode_base64url, digests)))


def is_signed_by_certificate(token: UnverifiedJwt, certificate: AppCertificate) -> bool:
    """Return whether `token` names `certificate` and was signed with its key."""
    named = bool(token.thumbprints & certificate.thumbprints)
    return named and _has_valid_signature(token, RSAKey.import_key(certificate.key))


def parse_jwks(text: str | bytes) -> Jwks:
    """Return the keys of a JWKS document, each of them usable.

    Raises:
        JwtError: it is not a JWKS, it is empty, or a key is neither RSA nor EC P-256.
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


def public_key(jwk: Jwk) -> RSAKey | ECKey:
    """Return the key that `jwk` describes.

    Raises:
        JwtError: it is neither RSA nor EC P-256, or its numbers make no key.
    """
    try:
        match jwk:
            case Jwk(kty="RSA", n=str(n), e=str(e)):
                return RSAKey.import_key({"kty": "RSA", "n": n, "e": e})
            case Jwk(kty="EC", crv="P-256", x=str(x), y=str(y)):
                return ECKey.import_key({"kty": "EC", "crv": "P-256", "x": x, "y": y})
    except (JoseError, ValueError) as error:
        raise JwtError(f"the key {jwk.kid!r} is malformed: {error}") from error
    raise JwtError(f"the key {jwk.kid!r} is neither RSA nor EC P-256 (kty {jwk.kty!r})")


def to_jwk(key: rsa.RSAPublicKey) -> Jwk:
    """Return `key` as an issuer publishes it; its id is its thumbprint (RFC 7638)."""
    imported = RSAKey.import_key(key)
    numbers = imported.as_dict(private=False)
    return Jwk(
        kty="RSA",
        kid=imported.thumbprint(),
        use="sig",
        alg="RS256",
        n=str(numbers["n"]),
        e=str(numbers["e"]),
    )


def _has_valid_signature(token: UnverifiedJwt, key: RSAKey | ECKey) -> bool:
    """Return whether `key` made the signature, with an algorithm of its own kind."""
    registry = _RSA_ALGORITHMS if isinstance(key, RSAKey) else _EC_ALGORITHMS
    try:
        algorithm = registry.get_alg(token.algorithm)
        return algorithm.verify(token.signing_input, token.signature, key)
    except (JoseError, ValueError):
        return False
