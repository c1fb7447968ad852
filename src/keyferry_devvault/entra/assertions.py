"""Client assertions: tokens of a federated issuer, or tokens signed with the app's own key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyferry_devvault.crypto.jwt import JwtError, is_signed_by_certificate, parse_jwt, verify_jwt
from keyferry_devvault.entra.entra_errors import Aadsts, entra_error
from keyferry_devvault.model import CLUSTER_ISSUER, EXCHANGE_AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyferry_devvault.command_hints import CommandHints
    from keyferry_devvault.crypto.jwt import JwtClaims, UnverifiedJwt
    from keyferry_devvault.http_types import HttpError, Request
    from keyferry_devvault.model import FederatedCredential, Identity
    from keyferry_devvault.storage.data import DevVaultData

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
BINDING_AUDIENCE = "api://AKSIdentityBinding"
"""The audience of tokens that only the token proxy of AKS accepts."""
_CLOCK_SKEW = 300.0
"""How far the clock of an issuer may be ahead, in seconds."""


def check_assertion(
    request: Request,
    form: Mapping[str, str],
    identity: Identity,
    data: DevVaultData,
    *,
    via_token_proxy: bool,
) -> None:
    """Check the client assertion of a token request.

    Args:
        request: the request.
        form: the form fields of the request.
        identity: the identity that the assertion authenticates.
        data: has the federated credentials, issuers and certificates.
        via_token_proxy: whether the token proxy of AKS received the request. It accepts the
            credentials with its own audience; Entra ID accepts all others.

    Raises:
        HttpError: the error response.
    """
    try:
        jwt = parse_jwt(form.get("client_assertion", ""))
    except JwtError:
        raise entra_error(request, Aadsts.MALFORMED, "JWT token is invalid or malformed.") from None
    if form.get("client_assertion_type") != JWT_BEARER:
        raise entra_error(
            request, Aadsts.GRANT, f"The client assertion type must be '{JWT_BEARER}'."
        )
    if jwt.claims.iss.lower() == identity.client_id and not via_token_proxy:
        _check_app_assertion(request, jwt, identity, data)
    else:
        rows = data.identities.federated_credentials(identity.client_id)
        rows = tuple(row for row in rows if (row.audience == BINDING_AUDIENCE) is via_token_proxy)
        command = _federate_command(identity.client_id, jwt.claims, data.hints)
        _match_federated_credential(request, rows, jwt.claims, command)
        _check_signature(request, jwt, data)
    _check_time(request, jwt)


def _check_time(request: Request, jwt: UnverifiedJwt) -> None:
    if request.received_at >= jwt.claims.exp or request.received_at + _CLOCK_SKEW < jwt.claims.nbf:
        raise entra_error(
            request,
            Aadsts.EXPIRED,
            "Client assertion is not within its valid time range."
            f" Current time: {int(request.received_at)}, expiry: {int(jwt.claims.exp)}.",
        )


def _check_app_assertion(
    request: Request, jwt: UnverifiedJwt, identity: Identity, data: DevVaultData
) -> None:
    """Check an assertion that the app signed with the key of a registered certificate."""
    audience = f"https://{request.host.partition(':')[0]}{request.path}"
    if jwt.claims.sub != jwt.claims.iss or audience not in jwt.claims.audiences():
        raise entra_error(request, Aadsts.ASSERTION_AUDIENCE, "Assertion audience claim is wrong.")
    certificates = data.credentials.certificates(identity.client_id)
    if not any(is_signed_by_certificate(jwt, certificate) for certificate in certificates):
        raise entra_error(
            request,
            Aadsts.ASSERTION_SIGNATURE,
            "The certificate with identifier used to sign the client assertion is not registered"
            " on application.",
            note="register it: "
            + data.hints.line("identity", "add-app", identity.client_id, "--certificate", "FILE"),
        )


def _check_signature(request: Request, jwt: UnverifiedJwt, data: DevVaultData) -> None:
    keys = data.identities.issuer_keys(jwt.claims.iss)
    if keys is None:
        raise entra_error(
            request,
            Aadsts.ISSUER_KEYS,
            f"Unable to retrieve the keys of the issuer '{jwt.claims.iss}'.",
            note="register them: "
            + data.hints.line("issuer", "add", jwt.claims.iss, "--jwks", "FILE"),
        )
    try:
        verify_jwt(jwt, keys)
    except JwtError:
        raise entra_error(
            request,
            Aadsts.MALFORMED,
            "JWT token is invalid or malformed: signature validation failed.",
        ) from None


def _match_federated_credential(
    request: Request, rows: tuple[FederatedCredential, ...], claims: JwtClaims, command: str
) -> None:
    """Check that a credential matches; the error names the first claim that does not."""
    rows = tuple(row for row in rows if row.issuer == claims.iss)
    if not rows:
        raise _no_federated_credential(
            request, Aadsts.FEDERATION_ISSUER, f"issuer '{claims.iss}'", command
        )
    rows = tuple(row for row in rows if row.audience in claims.audiences())
    if not rows:
        audiences = ", ".join(claims.audiences())
        raise _no_federated_credential(
            request, Aadsts.FEDERATION_AUDIENCE, f"audience '{audiences}'", command
        )
    if not any(row.subject == claims.sub for row in rows):
        raise _no_federated_credential(
            request, Aadsts.FEDERATION_SUBJECT, f"subject '{claims.sub}'", command
        )


def _federate_command(client_id: str, claims: JwtClaims, hints: CommandHints) -> str:
    """Return the command that adds the federated credential of a token."""
    words = ["identity", "federate", client_id, "--subject", claims.sub]
    if claims.iss != CLUSTER_ISSUER:
        words += ["--issuer", claims.iss]
    audiences = claims.audiences()
    if audiences and EXCHANGE_AUDIENCE not in audiences:
        words += ["--audience", audiences[0]]
    return hints.line(*words)


def _no_federated_credential(
    request: Request, code: Aadsts, mismatch: str, command: str
) -> HttpError:
    return entra_error(
        request,
        code,
        f"No matching federated identity record found for presented assertion {mismatch}. "
        "Check your"
        " federated identity credential Subject, Audience and Issuer against the presented"
        " assertion.",
        note=f"add one: {command}",
    )
