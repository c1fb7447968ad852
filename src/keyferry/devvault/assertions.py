"""Assertions that stand for a client secret: of a federated issuer, or of the app's own key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry.devvault.entra_errors import Aadsts, entra_error
from keyferry.devvault.jwt import JwtError, parse_jwt, verify_jwt, verify_with_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry.devvault.data import DevVaultData
    from keyferry.devvault.exchange import Call, Refused
    from keyferry.devvault.jwt import Claims, Jwt
    from keyferry.devvault.model import Federation, Identity

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
BINDING_AUDIENCE = "api://AKSIdentityBinding"
"""The audience of tokens that only the token proxy of AKS takes."""
_CLOCK_SKEW = 300.0
"""Seconds that the clock of an issuer may be ahead."""


def check_assertion(
    call: Call,
    form: Mapping[str, str],
    identity: Identity,
    data: DevVaultData,
    *,
    bound: bool,
) -> None:
    """Check whatever assertion the form carries.

    Args:
        call: the request.
        form: its fields.
        identity: whom the assertion is to stand for.
        data: federated credentials, issuers, certificates.
        bound: whether this is the token proxy of AKS: it takes the credentials with its own
            audience, and Entra takes all others.

    Raises:
        Refused: with the answer that says why.
    """
    try:
        jwt = parse_jwt(form.get("client_assertion", ""))
    except JwtError:
        raise entra_error(call, Aadsts.MALFORMED, "JWT token is invalid or malformed.") from None
    if form.get("client_assertion_type") != JWT_BEARER:
        raise entra_error(call, Aadsts.GRANT, f"The client assertion type must be '{JWT_BEARER}'.")
    if jwt.claims.iss.lower() == identity.client_id and not bound:
        _check_own(call, jwt, identity, data)
    else:
        rows = data.identities.federations(identity.client_id)
        rows = tuple(row for row in rows if (row.audience == BINDING_AUDIENCE) is bound)
        _match_federation(call, rows, jwt.claims)
        _check_signature(call, jwt, data)
    _check_time(call, jwt)


def _check_time(call: Call, jwt: Jwt) -> None:
    if call.now >= jwt.claims.exp or call.now + _CLOCK_SKEW < jwt.claims.nbf:
        raise entra_error(
            call,
            Aadsts.EXPIRED,
            "Client assertion is not within its valid time range."
            f" Current time: {int(call.now)}, expiry: {int(jwt.claims.exp)}.",
        )


def _check_own(call: Call, jwt: Jwt, identity: Identity, data: DevVaultData) -> None:
    """Check an assertion that the app signed itself: by a certificate that is registered."""
    wanted = f"https://{call.host.partition(':')[0]}{call.path}"
    if jwt.claims.sub != jwt.claims.iss or wanted not in jwt.claims.audiences():
        raise entra_error(call, Aadsts.ASSERTION_AUDIENCE, "Assertion audience claim is wrong.")
    certificates = data.proofs.certificates(identity.client_id)
    if not any(verify_with_certificate(jwt, certificate) for certificate in certificates):
        raise entra_error(
            call,
            Aadsts.ASSERTION_SIGNATURE,
            "The certificate with identifier used to sign the client assertion is not registered"
            " on application.",
            note="register it: keyferry devvault identity add-app CLIENT_ID --certificate FILE",
        )


def _check_signature(call: Call, jwt: Jwt, data: DevVaultData) -> None:
    keys = data.identities.issuer_keys(jwt.claims.iss)
    if keys is None:
        raise entra_error(
            call,
            Aadsts.ISSUER_KEYS,
            f"Unable to retrieve the keys of the issuer '{jwt.claims.iss}'.",
            note="register them: keyferry devvault issuer add URL --jwks FILE",
        )
    try:
        verify_jwt(jwt, keys)
    except JwtError:
        raise entra_error(
            call,
            Aadsts.MALFORMED,
            "JWT token is invalid or malformed: signature validation failed.",
        ) from None


def _match_federation(call: Call, rows: tuple[Federation, ...], claims: Claims) -> None:
    """Find a credential for the claims; the refusal tells how far the best one matched."""
    rows = tuple(row for row in rows if row.issuer == claims.iss)
    if not rows:
        raise _no_federation(call, Aadsts.FEDERATION_ISSUER, f"issuer '{claims.iss}'")
    rows = tuple(row for row in rows if row.audience in claims.audiences())
    if not rows:
        audiences = ", ".join(claims.audiences())
        raise _no_federation(call, Aadsts.FEDERATION_AUDIENCE, f"audience '{audiences}'")
    if not any(row.subject == claims.sub for row in rows):
        raise _no_federation(call, Aadsts.FEDERATION_SUBJECT, f"subject '{claims.sub}'")


def _no_federation(call: Call, code: Aadsts, what: str) -> Refused:
    return entra_error(
        call,
        code,
        f"No matching federated identity record found for presented assertion {what}. Check your"
        " federated identity credential Subject, Audience and Issuer against the presented"
        " assertion.",
        note="add one: keyferry devvault identity federate CLIENT_ID --subject SUBJECT",
    )
