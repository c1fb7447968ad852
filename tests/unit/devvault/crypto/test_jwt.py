from __future__ import annotations

import base64

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from keyferry_devvault.crypto.jwt import (
    Jwk,
    Jwks,
    JwtError,
    parse_jwks,
    parse_jwt,
    sign_jwt,
    to_jwk,
    verify_jwt,
)

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS = Jwks([to_jwk(KEY.public_key())])


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_signed_token_is_verified_by_its_published_key() -> None:
    """A token is verified with the JWK of its signing key."""
    jwt = parse_jwt(sign_jwt({"iss": "me", "aud": ["a", "b"], "exp": 12}, KEY))
    verify_jwt(jwt, parse_jwks(msgspec.json.encode(KEYS)))
    assert ("me", ("a", "b"), 12) == (jwt.claims.iss, jwt.claims.audiences(), jwt.claims.exp)


def test_a_token_of_another_key_is_refused() -> None:
    """The key id is not in the set."""
    with pytest.raises(JwtError, match="key id is not in the JWKS"):
        verify_jwt(parse_jwt(sign_jwt({}, OTHER)), KEYS)


def test_a_changed_claim_breaks_the_signature() -> None:
    """Nobody gets in by editing a token."""
    header, _, signature = sign_jwt({"sub": "a"}, KEY).split(".")
    forged = ".".join((header, base64url(b'{"sub":"b"}'), signature))
    with pytest.raises(JwtError, match="signature is wrong"):
        verify_jwt(parse_jwt(forged), KEYS)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "RS512"])
def test_an_rsa_key_accepts_rs256_only(algorithm: str) -> None:
    """The algorithm is decided by the key, not by the token."""
    header = base64url(msgspec.json.encode({"alg": algorithm}))
    signed = f"{header}.{base64url(b'{}')}"
    signature = KEY.sign(signed.encode(), PKCS1v15(), SHA256())
    with pytest.raises(JwtError, match="signature is wrong"):
        verify_jwt(parse_jwt(f"{signed}.{base64url(signature)}"), KEYS)


def test_es256_of_a_foreign_issuer_is_verified() -> None:
    """Clusters may sign with P-256."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    jwk = Jwk(
        kty="EC",
        kid="k",
        crv="P-256",
        x=base64url(point.x.to_bytes(32)),
        y=base64url(point.y.to_bytes(32)),
    )
    signed = base64url(b'{"alg":"ES256","kid":"k"}') + "." + base64url(b'{"sub":"me"}')
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
    token = f"{signed}.{base64url(r.to_bytes(32) + s.to_bytes(32))}"
    verify_jwt(parse_jwt(token), Jwks([jwk]))
    with pytest.raises(JwtError, match="signature is wrong"):
        verify_jwt(parse_jwt(token[:-8] + "AAAAAAAA"), Jwks([jwk]))


def test_padded_base64url_is_accepted() -> None:
    """azure-identity pads each part, and signs what it sends."""
    header = base64.urlsafe_b64encode(b'{"alg":"RS256"}').decode()
    signed = f"{header}.{base64.urlsafe_b64encode(b'{}').decode()}"
    signature = KEY.sign(signed.encode(), PKCS1v15(), SHA256())
    token = f"{signed}.{base64.urlsafe_b64encode(signature).decode()}"
    assert "=" in token
    verify_jwt(parse_jwt(token), KEYS)


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c", "é.é.é", "bnVsbA.bnVsbA.bnVsbA", "e30.e30.e30"]
)
def test_malformed_tokens_are_refused_without_quoting_them(text: str) -> None:
    """The message is the same whatever the token holds."""
    with pytest.raises(JwtError) as caught:
        parse_jwt(text)
    assert str(caught.value) == "it is not a well-formed JWT"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "not a JWKS"),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [{"kty": "oct", "kid": "k"}]}', "neither RSA nor EC P-256"),
        ('{"keys": [{"kty": "RSA", "kid": "k", "n": "AQ", "e": "AQ"}]}', "malformed"),
        ('{"keys": [{"kty": "EC", "kid": "k", "crv": "P-256", "x": "AQ", "y": "!"}]}', "malformed"),
    ],
)
def test_an_unusable_jwks_is_refused(text: str, problem: str) -> None:
    """The message names the key and what is wrong with it."""
    with pytest.raises(JwtError, match=problem):
        parse_jwks(text)
