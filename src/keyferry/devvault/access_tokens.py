"""The access tokens of the pretend Entra: issuing them, and checking those that come back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyferry.devvault.jwt import Claims, JwtError, parse_jwt, sign_jwt, verify_jwt
from keyferry.devvault.signing_keys import SigningKey, SigningKeys

if TYPE_CHECKING:
    from keyferry.devvault.model import Identity

_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class TokenProblem:
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
        self._verified: dict[bytes, Claims] = {}

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
        return sign_jwt(claims, self._keys.private(SigningKey.ENTRA))

    def check(self, token: str, *, audience: str, tenant: str, now: float) -> Claims | TokenProblem:
        """The claims of `token`, or why it is not good for `audience` and `tenant` at `now`."""
        try:
            claims = self._claims(token)
        except JwtError as error:
            return TokenProblem(f"AKV10046: The token is not accepted: {error}.")
        if now >= claims.exp or now < claims.nbf:
            return TokenProblem(
                "[TokenExpired] Error validating token: lifetime validation failed."
            )
        if audience not in {text.removesuffix("/") for text in claims.audiences()}:
            found = ", ".join(claims.audiences())
            return TokenProblem(f"AKV10022: Invalid audience. Expected {audience}, found: {found}.")
        if claims.tid != tenant:
            return TokenProblem(
                f"AKV10032: Invalid issuer. Expected one of https://sts.windows.net/{tenant}/,"
                f" found {claims.iss}."
            )
        return claims

    def _claims(self, token: str) -> Claims:
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            jwt = parse_jwt(token)
            verify_jwt(jwt, self._keys.published(SigningKey.ENTRA))
            claims = jwt.claims
            if len(self._verified) >= _MAX_REMEMBERED:
                self._verified.clear()
            self._verified[digest] = claims
        return claims
