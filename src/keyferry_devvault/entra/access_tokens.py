"""Issues and verifies access tokens of the emulated Entra."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.formats.bounded_dict import BoundedDict
from keyferry_devvault.crypto.jwt import JwtClaims, JwtError, parse_jwt, sign_jwt, verify_jwt
from keyferry_devvault.storage.signing_keys import SigningKeyName, SigningKeys

if TYPE_CHECKING:
    from keyferry_devvault.model import Identity

_MAX_CACHED_CLAIMS = 10_000


@dataclass(frozen=True, slots=True)
class TokenRejection:
    """Why a vault does not accept a token; never a part of it.

    Attributes:
        message: as the vault says it.
    """

    message: str


class AccessTokens:
    """Issues and checks access tokens.

    The signature of a token is checked once; what can change from call to call (time, audience,
    tenant) every time.
    """

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys
        self._verified_claims: BoundedDict[bytes, JwtClaims] = BoundedDict(_MAX_CACHED_CLAIMS)

    def issue(self, identity: Identity, resource: str, *, now: float, lifetime: int) -> str:
        """An access token of `identity` for `resource`, good from `now` (seconds since 1970) on."""
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
        """The claims of `token`, or why it is not good for `audience` and `tenant` at `now`."""
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
                f" found {claims.iss}."
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
