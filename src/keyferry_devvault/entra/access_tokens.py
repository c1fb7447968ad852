"""Access tokens of the emulated Entra ID: issue and validate them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec import Struct

from keyferry.formats.bounded_dict import BoundedDict
from keyferry_devvault.crypto.jwt import JwtClaims, JwtError, parse_jwt, sign_jwt, verify_jwt
from keyferry_devvault.storage.signing_keys import SigningKeyName, SigningKeys

if TYPE_CHECKING:
    from keyferry_devvault.model import Identity

_MAX_CACHED_CLAIMS = 10_000


class TokenRejection(Struct, frozen=True):
    """The reason why a vault rejects a token; never contains a part of it.

    Attributes:
        message: the message of the vault.
        wrong_tenant: whether another tenant issued the token.
    """

    message: str
    wrong_tenant: bool = False


class AccessTokens:
    """Issues and validates access tokens.

    The signature of a token is verified once; time, audience and tenant with each call.
    """

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys
        self._verified_claims: BoundedDict[bytes, JwtClaims] = BoundedDict(_MAX_CACHED_CLAIMS)

    def issue(self, identity: Identity, resource: str, *, now: float, lifetime: int) -> str:
        """Return an access token of `identity` for `resource`, valid from `now` (Unix time)."""
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{identity.tenant}/",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + lifetime,
            "appid": identity.client_id,
            "oid": identity.object_id,
            "sub": identity.object_id,
            "tid": identity.tenant,
            "ver": "1.0",
        }
        return sign_jwt(claims, self._keys.private_key(SigningKeyName.ENTRA))

    def validate(
        self, token: str, *, audience: str, tenant: str, now: float
    ) -> JwtClaims | TokenRejection:
        """Return the claims of `token`, or why `audience` and `tenant` reject it at `now`."""
        try:
            claims = self._claims(token)
        except JwtError as error:
            return TokenRejection(f"AKV10046: The token is not accepted: {error}.")
        if now >= claims.exp or now < claims.nbf:
            return TokenRejection(
                "[TokenExpired] Error validating token: lifetime validation failed."
            )
        if audience not in {text.removesuffix("/") for text in claims.audiences()}:
            found = ", ".join(claims.audiences())
            return TokenRejection(
                f"AKV10022: Invalid audience. Expected {audience}, found: {found}."
            )
        if claims.tid != tenant:
            return TokenRejection(
                f"AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{tenant}/,"
                f" found {claims.iss}.",
                wrong_tenant=True,
            )
        return claims

    def _claims(self, token: str) -> JwtClaims:
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        claims = self._verified_claims.get(digest)
        if claims is None:
            jwt = parse_jwt(token)
            verify_jwt(jwt, self._keys.public_jwks(SigningKeyName.ENTRA))
            claims = jwt.claims
            self._verified_claims[digest] = claims
        return claims
